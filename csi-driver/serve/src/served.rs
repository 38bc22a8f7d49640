//! Blobs that are served to the kernel.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use granary_blob::{Blob, BlobStats, BlobTag, Pool, ReadErrorCount};
use granary_fetch::SecretKeys;
use granary_image::ExtentTable;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::blob_reads::{BlobReads, Readers, Service};
use crate::fuse_file::FuseFile;
use crate::fuse_session::MAX_READ;
use crate::keeping::{Keeping, Kept};
use crate::origin::BlobOrigin;
use crate::read_errors::ReadErrors;
use crate::{ServeError, VersionManifest, sealed};

/// A blob with its origin and its FUSE file, shared by all mounted versions of it.
pub(crate) struct ServedBlob {
    pub(crate) origin: Arc<BlobOrigin>,
    pub(crate) file: FuseFile,
    pub(crate) blob: Arc<Blob>,
    tag: BlobTag,
    /// What the blob had counted before.
    base: BlobStats,
    base_errors: Vec<ReadErrorCount>,
    closed: Arc<Mutex<Counted>>,
    keeping: Keeping,
    keys: KeptKeys,
}

/// The keys of a blob's sources, for a successor.
struct KeptKeys {
    name: String,
    kept: Mutex<Option<Kept>>,
}

/// What blobs have counted that are served no more.
#[derive(Clone, Default)]
struct Counted {
    stats: BlobStats,
    errors: ReadErrors,
}

impl ServedBlob {
    /// New keys for the sources, also for a successor.
    pub(crate) fn set_secret(&self, secret: SecretKeys) {
        // Held to the end: the last keys are the last that are kept.
        let mut kept = self.keys.kept.lock();
        if self.origin.has(&secret) {
            return;
        }
        match sealed::seal(&secret) {
            Ok(memory) => *kept = Some(self.keeping.keep(&self.keys.name, vec![memory])),
            Err(error) => tracing::warn!(%error, "a successor of this process will wait for keys"),
        }
        self.origin.set_secret(secret);
    }

    fn add_to(&self, sum: &mut Counted) {
        sum.stats = sum.stats + (self.blob.stats() - self.base);
        sum.errors.add(&self.tag, self.blob.read_errors(), &self.base_errors);
    }
}

impl Drop for ServedBlob {
    fn drop(&mut self) {
        self.add_to(&mut self.closed.lock());
    }
}

/// A blob id within a pool.
type Name = (String, String);

/// What of a version's blob is kept as, after its kind.
pub(crate) fn kept_as(manifest: &VersionManifest) -> String {
    format!("{}/{}", manifest.pool, manifest.blob_id)
}

/// All blobs that are served.
pub(crate) struct ServedBlobs {
    readers: Readers,
    blobs: Mutex<HashMap<Name, Weak<ServedBlob>>>,
    /// A blob can outlive its service while the kernel finishes with it, and keeps its origin for as long.
    origins: Mutex<HashMap<Name, Weak<BlobOrigin>>>,
    closed: Arc<Mutex<Counted>>,
    pub(crate) keeping: Keeping,
}

impl ServedBlobs {
    pub(crate) fn new(runtime: Handle, keeping: Keeping) -> Self {
        Self {
            readers: Readers::new(MAX_READ as usize, runtime),
            blobs: Mutex::default(),
            origins: Mutex::default(),
            closed: Arc::default(),
            keeping,
        }
    }

    /// The blob of a version, with the version's sources and extents added.
    pub(crate) fn serve(
        &self,
        manifest: &VersionManifest,
        pool: &Arc<Pool>,
        table: ExtentTable,
    ) -> Result<Arc<ServedBlob>, ServeError> {
        let name = (manifest.pool.clone(), manifest.blob_id.clone());
        // Held to the end, so that a blob is served once.
        let mut blobs = self.blobs.lock();
        blobs.retain(|_, blob| blob.strong_count() > 0);
        let origin = self.origin(&name);
        origin.open_sources(&manifest.sources, &manifest.policy)?;
        let blob = pool.blob(manifest.dataset.clone(), table, origin.clone())?;
        if let Some(served) = blobs.get(&name).and_then(Weak::upgrade) {
            return Ok(served);
        }
        let kept_as = kept_as(manifest);
        let file = FuseFile::open(|| self.readers.of(&blob), &self.keeping, &kept_as)
            .map_err(ServeError::io("serve by", "/dev/fuse"))?;
        let keys = self.left_keys(&kept_as, &origin);
        let served = Arc::new(ServedBlob {
            origin,
            file,
            tag: manifest.dataset.clone(),
            base: blob.stats(),
            base_errors: blob.read_errors(),
            blob,
            closed: self.closed.clone(),
            keeping: self.keeping.clone(),
            keys,
        });
        blobs.insert(name, Arc::downgrade(&served));
        Ok(served)
    }

    /// The keys that a predecessor had, until somebody brings newer ones.
    fn left_keys(&self, blob: &str, origin: &BlobOrigin) -> KeptKeys {
        let name = format!("keys-1/{blob}");
        let kept = self.keeping.take(&name).and_then(|mut left| {
            let memory = left.pop()?;
            match memory.try_clone().and_then(sealed::open) {
                Ok(keys) => origin.set_secret(keys),
                Err(error) => tracing::warn!(blob, %error, "the keys that were kept cannot be read"),
            }
            Some(self.keeping.keep(&name, vec![memory]))
        });
        KeptKeys { name, kept: Mutex::new(kept) }
    }

    /// Reads of a blob for a session that is not the blob's own.
    pub(crate) fn reads(&self, served: &ServedBlob) -> (BlobReads, Service) {
        self.readers.of(&served.blob)
    }

    /// What a predecessor has had mounted is served: reads that have waited for that are answered.
    pub(crate) fn begin(&self) {
        self.readers.begin();
    }

    fn origin(&self, name: &Name) -> Arc<BlobOrigin> {
        let mut origins = self.origins.lock();
        origins.retain(|_, origin| origin.strong_count() > 0);
        origins.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let origin = Arc::new(BlobOrigin::default());
            origins.insert(name.clone(), Arc::downgrade(&origin));
            origin
        })
    }

    /// What all blobs have moved, and which reads failed, those that are served no more included.
    pub(crate) fn counted(&self) -> (BlobStats, ReadErrors) {
        // Taken out first: dropping the last handle of a blob takes the lock of the sums.
        let served: Vec<_> = self.blobs.lock().values().filter_map(Weak::upgrade).collect();
        let mut sum = self.closed.lock().clone();
        served.iter().for_each(|blob| blob.add_to(&mut sum));
        (sum.stats, sum.errors)
    }
}
