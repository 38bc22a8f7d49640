//! The extent table that an index Job extends.

use std::path::{Path, PathBuf};

use anyhow::Context;
use granary_crds::exchange::{MEDIA_TYPE_EXTENTS, Parent};
use granary_image::{Digest, ExtentTable};
use sha2::Sha256;

use crate::store::StoreClient;

/// Fetches the table into `directory`. None if the store has lost it, or if it is damaged: then a new blob begins.
pub async fn download(parent: &Parent, store: &StoreClient, directory: &Path) -> anyhow::Result<Option<ExtentTable>> {
    let extents = &parent.extents;
    if extents.media_type != MEDIA_TYPE_EXTENTS {
        tracing::warn!(
            media_type = extents.media_type,
            "the earlier extent table is of an unknown kind; beginning a new blob"
        );
        return Ok(None);
    }
    let digest: Digest = extents.digest.parse().context("the assignment's parent has no digest")?;
    let bytes = u64::try_from(extents.size_bytes).context("the assignment's parent has no size")?;
    let path = directory.join("parent");
    match store.get(&digest, bytes, &path).await {
        Err(error) if error.status() == Some(404) => {
            tracing::warn!("{error}; beginning a new blob");
            return Ok(None);
        }
        got => got.context("cannot fetch the extent table to extend")?,
    }
    let opened = tokio::task::spawn_blocking(move || open(&digest, path)).await??;
    let usable = opened.filter(|table| table.blob_id() == parent.blob_id);
    if usable.is_none() {
        tracing::warn!("the earlier extent table is damaged; beginning a new blob");
    }
    Ok(usable)
}

fn open(digest: &Digest, path: PathBuf) -> anyhow::Result<Option<ExtentTable>> {
    use sha2::Digest as _;
    let mut hasher = Sha256::new();
    let mut file = std::fs::File::open(&path).context("cannot read the extent table")?;
    std::io::copy(&mut file, &mut Hashing(&mut hasher)).context("cannot read the extent table")?;
    if Digest::from_hasher(hasher) != *digest {
        return Ok(None);
    }
    Ok(ExtentTable::open(&path).ok())
}

struct Hashing<'a>(&'a mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
