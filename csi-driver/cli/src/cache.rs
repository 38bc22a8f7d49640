//! The cache directory: `server/` (mounts), `pool/` (bytes) and, for each set of sources, `index/<hash>/` with the artifacts of
//! the last listing. The next listing extends that one's extent table, and so finds the bytes that are cached.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_trait::async_trait;
use granary_fetch::SourceConfig;
use granary_image::{Digest, ExtentTable};
use granary_index::Indexed;
use granary_serve::{ArtifactError, ArtifactStore};

/// Name of the link to the extent table of the last listing.
const LAST: &str = "last";

/// The directory of one set of sources.
pub struct IndexDir(PathBuf);

impl IndexDir {
    /// Opens or makes the directory. Include and exclude do not matter: they choose among the same objects.
    pub fn open(cache: &Path, configs: &[SourceConfig]) -> anyhow::Result<Self> {
        let mut ids: Vec<_> = configs.iter().map(|config| config.id().to_string()).collect();
        ids.sort();
        let dir = cache.join("index").join(Digest::of(ids.join(",").as_bytes()).hex());
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The extent table of the last listing. One that cannot be read is as good as none: a new blob begins.
    pub fn parent(&self) -> Option<ExtentTable> {
        let path = self.0.join(LAST);
        match ExtentTable::open(&path) {
            Ok(table) => Some(table),
            Err(error) => {
                if path.exists() {
                    tracing::warn!(%error, "the last extent table is left out, and with it what is cached");
                }
                None
            }
        }
    }

    /// Makes `indexed` the last listing and removes what came before.
    pub fn keep(&self, indexed: &Indexed) -> anyhow::Result<()> {
        let new = self.0.join("new");
        let swap = || {
            remove_if_there(&new)?;
            fs::hard_link(&indexed.extents.path, &new)?;
            fs::rename(&new, self.0.join(LAST))?;
            // If both are one file already, rename(2) leaves both names.
            remove_if_there(&new)?;
            let kept = [&indexed.image.path, &indexed.extents.path, &self.0.join(LAST)];
            for entry in fs::read_dir(&self.0)? {
                let path = entry?.path();
                if !kept.contains(&&path) {
                    fs::remove_file(path)?;
                }
            }
            io::Result::Ok(())
        };
        swap().with_context(|| format!("cannot keep the listing in {}", self.0.display()))
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Artifacts that lie in the cache directory already.
pub struct LocalArtifacts<'a>(pub &'a Indexed);

#[async_trait]
impl ArtifactStore for LocalArtifacts<'_> {
    async fn fetch(&self, digest: &Digest, _: u64, to: &Path) -> Result<(), ArtifactError> {
        let artifact = [&self.0.image, &self.0.extents].into_iter().find(|artifact| artifact.digest == *digest);
        let artifact = artifact.ok_or_else(|| ArtifactError(format!("{digest} was not made by this run")))?;
        fs::hard_link(&artifact.path, to)
            .map_err(|error| ArtifactError(format!("cannot link {}: {error}", artifact.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use granary_image::{ImageBuilder, Object, Pin, PinKind, TableBuilder};
    use granary_index::Artifact;

    use super::*;

    fn config(include: &[&str]) -> SourceConfig {
        let include = include.iter().map(|glob| (*glob).to_owned()).collect();
        SourceConfig { uri: "s3://bucket/".into(), include, ..SourceConfig::default() }
    }

    /// A listing of `count` objects, made as the indexer makes it.
    fn listing(dir: &IndexDir, count: u64) -> Indexed {
        let mut table = dir.parent().map_or_else(|| TableBuilder::new("blob".into()), |p| TableBuilder::extending(&p));
        for n in 0..count {
            let pin = Pin { kind: PinKind::ETag, value: "\"1\"".into() };
            table.allocate(&Object { source: config(&[]).id(), key: n.to_string(), pin, size: 5 }).unwrap();
        }
        let (mut extents, mut image) = (Vec::new(), Vec::new());
        let extents_summary = table.finish(&mut extents).unwrap();
        let image_summary = ImageBuilder::new().finish(extents_summary.blob_bytes, &mut image).unwrap();
        let store = |bytes: &[u8], digest: Digest| {
            let path = dir.path().join(digest.hex());
            fs::write(&path, bytes).unwrap();
            Artifact { path, digest, bytes: bytes.len() as u64 }
        };
        Indexed {
            listing_digest: image_summary.digest,
            file_count: 0,
            size_bytes: 0,
            blob_id: "blob".into(),
            blob_bytes: extents_summary.blob_bytes,
            parent: None,
            image: store(&image, image_summary.digest),
            extents: store(&extents, extents_summary.digest),
            sources: vec![],
            skipped: vec![],
        }
    }

    #[test]
    fn the_next_listing_extends_the_last() {
        let cache = tempfile::tempdir().unwrap();
        let dir = IndexDir::open(cache.path(), &[config(&[])]).unwrap();
        assert!(dir.parent().is_none());
        dir.keep(&listing(&dir, 1)).unwrap();
        let first = dir.parent().unwrap();
        // The same again, then one object more.
        for count in [1, 2] {
            dir.keep(&listing(&dir, count)).unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "image, table and the link to it");
        }
        let same = IndexDir::open(cache.path(), &[config(&["*.jpg"])]).unwrap();
        let second = same.parent().unwrap();
        assert!(second.extends(&first) && second.len() == 2);
    }

    #[test]
    fn a_damaged_table_is_left_out() {
        let cache = tempfile::tempdir().unwrap();
        let dir = IndexDir::open(cache.path(), &[config(&[])]).unwrap();
        fs::write(dir.path().join(LAST), "nonsense").unwrap();
        assert!(dir.parent().is_none());
    }
}
