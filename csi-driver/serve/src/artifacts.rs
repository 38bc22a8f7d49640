//! Gets a version's image and extent table and checks them before the kernel or anybody else reads them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use granary_image::{Digest, ExtentTable, ImageReader, PartRanges, parts_of};
use sha2::{Digest as _, Sha256};

use crate::state_dir::{VersionDir, read_json, remove_file, write_json};
use crate::{ArtifactStore, ServeError, VersionManifest};

/// Completes `dir`: fetches what is absent, and writes the manifest last, so that what one with a manifest has was checked, and
/// is on the disk: it is not checked again.
pub(crate) async fn complete(
    dir: &VersionDir,
    manifest: &VersionManifest,
    store: &dyn ArtifactStore,
) -> Result<(), ServeError> {
    dir.create()?;
    let known = read_json::<VersionManifest>(&dir.manifest());
    if known.is_ok_and(|known| (known.image, known.extents) == (manifest.image, manifest.extents)) {
        return write_json(&dir.manifest(), manifest);
    }
    fetch(store, &manifest.image, manifest.image_bytes, &dir.image()).await?;
    fetch(store, &manifest.extents, manifest.extents_bytes, &dir.extents()).await?;
    let (image, extents, wanted) = (dir.image(), dir.extents(), manifest.clone());
    run_blocking(move || validate(&image, &extents, &wanted)).await?;
    write_json(&dir.manifest(), manifest)
}

/// The extent table of a complete version, and the parts of the blob that its files need.
pub(crate) fn open(dir: &VersionDir) -> Result<(ExtentTable, PartRanges), ServeError> {
    let (table, image) = (ExtentTable::open(&dir.extents())?, ImageReader::open(&dir.image())?);
    let parts = parts_of(&image, &table)?;
    // They were read as a whole, and little of them is needed from now on.
    image.release_pages();
    table.release_pages();
    Ok((table, parts))
}

async fn fetch(store: &dyn ArtifactStore, digest: &Digest, bytes: u64, to: &Path) -> Result<(), ServeError> {
    let temporary = to.with_extension("new");
    remove_file(&temporary).map_err(ServeError::io("remove", &temporary))?;
    store
        .fetch(digest, bytes, &temporary)
        .await
        .map_err(|error| ServeError::Artifact { digest: *digest, message: error.to_string() })?;
    let (digest, to) = (*digest, to.to_owned());
    run_blocking(move || {
        let found = digest_of(&temporary).map_err(ServeError::io("read", &temporary))?;
        if found != digest {
            return Err(ServeError::WrongDigest { digest, found });
        }
        sync(&temporary).map_err(ServeError::io("write", &temporary))?;
        std::fs::rename(&temporary, &to).map_err(ServeError::io("rename", &temporary))
    })
    .await
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut buf = vec![0; 1 << 18];
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            n => hasher.update(&buf[..n]),
        }
    }
}

/// Reads all of an image and checks that the parts of a version fit together.
fn validate(image: &Path, extents: &Path, manifest: &VersionManifest) -> Result<(), ServeError> {
    let table = ExtentTable::open(extents)?;
    let image = ImageReader::open(image)?;
    let invalid = |message: String| Err(ServeError::Invalid { version: manifest.version.clone(), message });
    if table.blob_id() != manifest.blob_id {
        return invalid(format!(
            "its extent table is of blob {}, and blob {} is wanted",
            table.blob_id(),
            manifest.blob_id
        ));
    }
    if table.blob_bytes() != manifest.blob_bytes || image.blob_bytes() > manifest.blob_bytes {
        return invalid(format!(
            "it names {} bytes of blob, its extent table {} and its image {}",
            manifest.blob_bytes,
            table.blob_bytes(),
            image.blob_bytes()
        ));
    }
    image.validate(&table)?;
    image.release_pages();
    Ok(())
}

/// Runs `work`, which waits for disks or the kernel, where it does not hold up the runtime.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ServeError::Stopped),
        },
    }
}
