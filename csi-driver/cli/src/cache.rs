//! The cache directory: `server/` (mounts), `pool/` (bytes) and, for each set of sources, `index/<hash>/` with the artifacts of
//! the last listing and what it mounted. The next listing extends that one's extent table, and so finds the bytes that are cached.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use granary_fetch::SourceConfig;
use granary_image::{Digest, ExtentTable};
use granary_index::Indexed;
use granary_serve::{ArtifactError, ArtifactStore, VersionManifest};

/// Name of the link to the extent table of the last listing.
const LAST: &str = "last";
/// Name of the file with the manifest that was made of it.
const MANIFEST: &str = "last.json";

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

    /// What the last listing mounted; an error that says what to do if these sources were never listed in the same way.
    pub fn last(&self, configs: &[SourceConfig]) -> anyhow::Result<VersionManifest> {
        let read = fs::read(self.0.join(MANIFEST)).map_err(anyhow::Error::from);
        let last = read.and_then(|bytes| Ok(serde_json::from_slice::<VersionManifest>(&bytes)?));
        match last {
            Ok(manifest) if manifest.sources == configs => Ok(manifest),
            Ok(_) => bail!("the last mount of these URIs had other options for them: leave out --last once"),
            Err(error) => Err(error.context("this cache has no last mount of these URIs: leave out --last once")),
        }
    }

    /// Makes `indexed` the last listing, of which `manifest` was made, and removes what came before.
    pub fn keep(&self, indexed: &Indexed, manifest: &VersionManifest) -> anyhow::Result<()> {
        let new = self.0.join("new");
        let swap = || {
            remove_if_there(&new)?;
            fs::hard_link(&indexed.extents.path, &new)?;
            fs::rename(&new, self.0.join(LAST))?;
            // If both are one file already, rename(2) leaves both names.
            remove_if_there(&new)?;
            fs::write(&new, serde_json::to_vec(manifest)?)?;
            fs::rename(&new, self.0.join(MANIFEST))?;
            let kept = [&indexed.image.path, &indexed.extents.path, &self.0.join(LAST), &self.0.join(MANIFEST)];
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

#[async_trait]
impl ArtifactStore for IndexDir {
    /// Artifacts lie here already, by names that begin with their digests.
    async fn fetch(&self, digest: &Digest, _: u64, to: &Path) -> Result<(), ArtifactError> {
        let failed = |error: io::Error| ArtifactError(format!("cannot link it from {}: {error}", self.0.display()));
        let hex = digest.hex();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.file_stem().is_some_and(|stem| stem == hex.as_str()) {
                return fs::hard_link(&path, to).map_err(failed);
            }
        }
        Err(ArtifactError(format!("the last listing in {} did not make it", self.0.display())))
    }
}

#[cfg(test)]
mod tests {
    use granary_blob::BlobTag;
    use granary_fetch::SourcePolicy;
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

    fn keep(dir: &IndexDir, indexed: &Indexed) -> VersionManifest {
        let manifest = VersionManifest {
            dataset: BlobTag { dataset_uid: "blob".into(), namespace: "local".into(), name: "s3://bucket/".into() },
            version: indexed.listing_digest.to_string(),
            image: indexed.image.digest,
            image_bytes: indexed.image.bytes,
            extents: indexed.extents.digest,
            extents_bytes: indexed.extents.bytes,
            blob_id: indexed.blob_id.clone(),
            blob_bytes: indexed.blob_bytes,
            sources: vec![config(&[])],
            pool: "local".into(),
            policy: SourcePolicy::unrestricted(),
            preload: false,
        };
        dir.keep(indexed, &manifest).unwrap();
        manifest
    }

    #[tokio::test]
    async fn the_last_mount_is_known_with_its_artifacts() {
        let cache = tempfile::tempdir().unwrap();
        let dir = IndexDir::open(cache.path(), &[config(&[])]).unwrap();
        let error = dir.last(&[config(&[])]).unwrap_err().to_string();
        assert!(error.contains("leave out --last"), "{error}");
        let manifest = keep(&dir, &listing(&dir, 1));
        assert_eq!(dir.last(&[config(&[])]).unwrap(), manifest);
        let other = dir.last(&[config(&["*.jpg"])]).unwrap_err().to_string();
        assert!(other.contains("other options"), "{other}");
        for digest in [manifest.image, manifest.extents] {
            let to = cache.path().join(digest.hex());
            dir.fetch(&digest, 0, &to).await.unwrap();
            assert_eq!(Digest::of(&fs::read(&to).unwrap()), digest);
        }
        let unknown = Digest::of(b"another");
        assert!(dir.fetch(&unknown, 0, &cache.path().join("x")).await.is_err());
    }

    #[test]
    fn the_next_listing_extends_the_last() {
        let cache = tempfile::tempdir().unwrap();
        let dir = IndexDir::open(cache.path(), &[config(&[])]).unwrap();
        assert!(dir.parent().is_none());
        keep(&dir, &listing(&dir, 1));
        let first = dir.parent().unwrap();
        // The same again, then one object more.
        for count in [1, 2] {
            keep(&dir, &listing(&dir, count));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "image, table, the link to it and the manifest");
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
