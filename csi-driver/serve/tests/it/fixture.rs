//! A directory of files, versions made of it, and a server that mounts them; all of it gone when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use granary_blob::{BlobTag, PoolConfig};
use granary_fetch::{NoCredentials, SecretKeys, Source, SourceConfig, SourcePolicy};
use granary_image::{Digest, ExtentTable, ImageBuilder, Object, TableBuilder};
use granary_serve::{
    ArtifactError, ArtifactStore, LayoutChoice, MountLayout, ServeError, Server, ServerConfig, VersionManifest,
};
use rustix::mount::UnmountFlags;
use tokio::sync::{Mutex, MutexGuard};

/// Files of sizes at and around the borders of blocks and parts.
pub const SIZES: [(&str, usize); 8] = [
    ("a/one", 1),
    ("a/block", 4096),
    ("a/more", 4097),
    ("b/c/part", 1 << 20),
    ("b/c/two parts", (1 << 20) + 5000),
    ("b/empty", 0),
    ("big", 5 << 20),
    ("z", 12_345),
];

/// One test at a time: they count the process's threads and descriptors.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The two ways of mounting: by the kernel, as well as it can, and as a FUSE filesystem.
pub const WAYS: [LayoutChoice; 2] = [LayoutChoice::Auto, LayoutChoice::FUSE];

pub struct Fixture {
    pub dir: PathBuf,
    /// How its servers mount.
    pub way: LayoutChoice,
    /// Whether the kernel of its servers can ask a successor again.
    pub has_resend: bool,
    /// Removes the directory; `None` in the child's view of its parent's.
    owned: Option<(tempfile::TempDir, MutexGuard<'static, ()>)>,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(LayoutChoice::Auto).await
    }

    pub async fn with(way: LayoutChoice) -> Self {
        let alone = ALONE.lock().await;
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().canonicalize().unwrap();
        for name in ["source", "artifacts", "targets"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let fixture = Self { dir, way, has_resend: true, owned: Some((temporary, alone)) };
        for (seed, (path, size)) in SIZES.iter().enumerate() {
            fixture.write(path, &bytes(seed as u64, *size));
        }
        fixture
    }

    /// The same directory, seen by another process.
    pub fn existing(dir: PathBuf, way: LayoutChoice) -> Self {
        Self { dir, way, has_resend: true, owned: None }
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.join("source").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn target(&self, name: &str) -> PathBuf {
        self.dir.join("targets").join(name)
    }

    pub fn config(&self) -> ServerConfig {
        let pool = PoolConfig {
            dir: self.dir.join("cache"),
            max_bytes: Some(64 << 20),
            min_free_percent: 0,
            min_free_bytes: 0,
        };
        let pools = BTreeMap::from([("local".to_owned(), pool)]);
        ServerConfig { state_dir: self.dir.join("state"), pools, layout: self.way, keeper: None }
    }

    pub async fn server(&self) -> Arc<Server> {
        Server::start(self.config()).await.unwrap()
    }

    /// A server on what one of this process had that is going down.
    pub async fn server_again(&self) -> Arc<Server> {
        let start = Instant::now();
        loop {
            match Server::start(self.config()).await {
                Err(ServeError::InUse(_) | ServeError::Pool(granary_blob::PoolError::InUse(_)))
                    if start.elapsed() < Duration::from_secs(60) =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                server => return server.unwrap(),
            }
        }
    }

    /// Takes away all mounts below the fixture, innermost first; loop devices clear themselves.
    pub fn unmount_all(&self) {
        for line in self.mounts().iter().rev() {
            let path = line.split(' ').nth(4).unwrap_or_default();
            let _ = rustix::mount::unmount(path, UnmountFlags::DETACH);
        }
    }

    /// Lists the source now and makes a version of it, after `parent`.
    pub async fn version(&self, name: &str, parent: Option<&VersionManifest>) -> VersionManifest {
        let uri = format!("file://{}/", self.dir.join("source").display());
        self.version_of(SourceConfig { uri, ..SourceConfig::default() }, name, parent).await
    }

    /// The same of another source.
    pub async fn version_of(
        &self,
        config: SourceConfig,
        name: &str,
        parent: Option<&VersionManifest>,
    ) -> VersionManifest {
        let policy = SourcePolicy::unrestricted();
        let source = Source::open(&config, Arc::new(NoCredentials), Arc::new(policy.clone())).unwrap();
        let mut listed: Vec<_> = source.list().try_collect().await.unwrap();
        listed.sort_by(|a, b| a.key.cmp(&b.key));

        let parent = parent.map(|parent| ExtentTable::open(&self.artifact(&parent.extents)).unwrap());
        let mut table = match &parent {
            Some(parent) => TableBuilder::extending(parent),
            None => TableBuilder::new(format!("blob-{name}")),
        };
        let mut image = ImageBuilder::new();
        for file in listed {
            let object = Object { source: config.id(), key: file.key, pin: file.pin, size: file.size };
            let offset = if object.size == 0 { 0 } else { table.allocate(&object).unwrap() };
            image.add_file(&object.key, object.size, offset).unwrap();
        }
        let mut extents_bytes = Vec::new();
        let extents = table.finish(&mut extents_bytes).unwrap();
        let mut image_bytes = Vec::new();
        let image = image.finish(extents.blob_bytes, &mut image_bytes).unwrap();
        fs::write(self.artifact(&extents.digest), &extents_bytes).unwrap();
        fs::write(self.artifact(&image.digest), &image_bytes).unwrap();
        let table = ExtentTable::from_bytes(extents_bytes).unwrap();
        VersionManifest {
            dataset: BlobTag { dataset_uid: "uid".into(), namespace: "lab".into(), name: "data".into() },
            version: name.to_owned(),
            image: image.digest,
            image_bytes: image.bytes,
            extents: extents.digest,
            extents_bytes: extents.bytes,
            blob_id: table.blob_id().to_owned(),
            blob_bytes: table.blob_bytes(),
            sources: vec![config],
            pool: "local".into(),
            policy,
            preload: false,
        }
    }

    pub fn artifact(&self, digest: &Digest) -> PathBuf {
        self.dir.join("artifacts").join(digest.hex())
    }

    pub async fn publish(&self, server: &Server, target: &str, version: &VersionManifest) -> Result<(), ServeError> {
        server.publish("volume", &self.target(target), version, SecretKeys::default(), self).await
    }

    pub async fn unpublish(&self, server: &Server, target: &str) -> Result<(), ServeError> {
        server.unpublish("volume", &self.target(target)).await
    }

    /// Lines of mountinfo about mounts below the fixture.
    pub fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir.display().to_string();
        text.lines().filter(|line| line.contains(&dir)).map(str::to_owned).collect()
    }

    /// Loop devices bound to images below the fixture.
    pub fn image_loops(&self) -> usize {
        let dir = self.dir.display().to_string();
        let devices = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
        devices
            .filter_map(|path| fs::read_to_string(path.join("loop/backing_file")).ok())
            .filter(|f| f.contains(&dir) && f.contains("granary.erofs"))
            .count()
    }

    /// Mounts and images' loop devices that there are if versions have so many of each in the kernel's way.
    pub fn expected(&self, mounts: usize, loops: usize) -> (usize, usize) {
        (mounts, if self.way == LayoutChoice::FUSE { 0 } else { loops })
    }

    /// Mounts below the fixture, and loop devices of images.
    pub fn found(&self) -> (usize, usize) {
        (self.mounts().len(), self.image_loops())
    }

    /// Versions that have a directory.
    pub fn kept(&self) -> usize {
        fs::read_dir(self.dir.join("state/versions")).unwrap().count()
    }

    /// Sets the limit of the cache.
    pub fn limit(&self, server: &Server, mib: u64) {
        let pool = PoolConfig { max_bytes: Some(mib << 20), ..self.config().pools["local"].clone() };
        server.set_pool("local", pool).unwrap();
    }

    /// As [`Self::assert_same`], with nothing in the page cache of the mount.
    pub fn assert_same_anew(&self, target: &str) {
        for (path, _) in SIZES {
            forget(&fs::File::open(self.target(target).join(path)).unwrap());
        }
        self.assert_same(target);
    }

    /// Compares every byte below `target` with the source.
    pub fn assert_same(&self, target: &str) {
        for (path, _) in SIZES {
            let found = fs::read(self.target(target).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(found == fs::read(self.dir.join("source").join(path)).unwrap(), "{path} differs");
        }
    }
}

impl Drop for Fixture {
    /// Takes away what a failed test left mounted.
    fn drop(&mut self) {
        if self.owned.is_some() {
            self.unmount_all();
        }
    }
}

#[async_trait]
impl ArtifactStore for Fixture {
    async fn fetch(&self, digest: &Digest, _: u64, to: &Path) -> Result<(), ArtifactError> {
        fs::copy(self.artifact(digest), to).map(drop).map_err(|error| ArtifactError(error.to_string()))
    }
}

/// Takes what a file has out of the page cache.
pub fn forget(file: &fs::File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// The layouts of all published versions, in the order of their names.
pub fn layouts(server: &Server) -> Vec<MountLayout> {
    server.report().datasets.iter().flat_map(|dataset| &dataset.versions).map(|version| version.layout).collect()
}

/// Waits until something that happens in the background has happened.
pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the versions have these layouts.
pub async fn wait_for(server: &Server, wanted: &[MountLayout]) {
    wait_until(&format!("{wanted:?}"), || layouts(server) == wanted).await;
}

/// Names and targets of the versions of the only dataset.
pub fn published(server: &Server) -> Vec<(String, u32)> {
    let report = server.report();
    report.datasets[0].versions.iter().map(|version| (version.version.clone(), version.targets)).collect()
}

/// Bytes that look random and differ for each seed.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
