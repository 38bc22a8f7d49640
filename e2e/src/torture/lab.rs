//! What is mounted: datasets, versions of them made of random models, and the directory that all of it lies in.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use granary_blob::BlobTag;
use granary_fetch::{HttpOptions, SourceConfig, SourcePolicy};
use granary_image::{Digest, ExtentTable, ImageBuilder, Object, Pin, PinKind, TableBuilder};
use granary_serve::VersionManifest;

use super::model::Model;
use super::origin::{Origin, etag, key};

/// A version of a dataset, and what it must look like.
pub struct Version {
    /// Name of the dataset.
    pub dataset: String,
    /// What the server is told.
    pub manifest: VersionManifest,
    /// What readers must see.
    pub model: Model,
}

/// The directory of one run, gone when dropped.
pub struct Lab {
    /// Where images and extent tables lie, below the directory.
    pub artifacts: PathBuf,
    /// The source of everything.
    pub origin: Origin,
    dir: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Lab {
    /// An empty directory on the disk, and a source without objects, whose process is a command of `program`.
    pub fn new(program: &Path) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("granary-torture-").tempdir().context("making a directory")?;
        let dir = temporary.path().canonicalize()?;
        let artifacts = dir.join("artifacts");
        for name in ["artifacts", "targets", "fusectl", "tiny"] {
            fs::DirBuilder::new().mode(0o700).create(dir.join(name))?;
        }
        let origin = Origin::start(program, dir.join("objects"))?;
        Ok(Self { artifacts, origin, dir, _temporary: temporary })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The place of a target.
    pub fn target(&self, name: &str) -> PathBuf {
        self.dir.join("targets").join(name)
    }

    /// Makes a version of `dataset`, to be cached in `pool`, that extends the blob of `parent`.
    pub fn version(
        &self,
        dataset: &str,
        name: &str,
        pool: &str,
        model: Model,
        parent: Option<&Version>,
    ) -> Result<Version> {
        self.origin.add(dataset, &model)?;
        let source = SourceConfig {
            uri: self.origin.uri(dataset),
            // Keys are known from the extent table: nobody lists them.
            http: Some(HttpOptions::default()),
            ..SourceConfig::default()
        };
        let built = build(dataset, &source, &model, parent.map(|parent| self.table(parent)).transpose()?)?;
        for (digest, bytes) in [(built.image, &built.image_bytes), (built.extents, &built.extents_bytes)] {
            fs::write(self.artifacts.join(digest.hex()), bytes).context("writing an artifact")?;
        }
        let manifest = VersionManifest {
            dataset: BlobTag { dataset_uid: dataset.into(), namespace: "torture".into(), name: dataset.into() },
            version: name.to_owned(),
            image: built.image,
            image_bytes: built.image_bytes.len() as u64,
            extents: built.extents,
            extents_bytes: built.extents_bytes.len() as u64,
            blob_id: dataset.to_owned(),
            blob_bytes: built.blob_bytes,
            sources: vec![source],
            pool: pool.to_owned(),
            policy: SourcePolicy::unrestricted(),
            preload: false,
        };
        Ok(Version { dataset: dataset.to_owned(), manifest, model })
    }

    fn table(&self, version: &Version) -> Result<ExtentTable> {
        Ok(ExtentTable::open(&self.artifacts.join(version.manifest.extents.hex()))?)
    }

    /// Mounts a filesystem in memory, to be full soon, and gives its place.
    pub fn tiny_filesystem(&self, bytes: u64) -> Result<PathBuf> {
        use rustix::mount::{MountFlags, mount};
        let dir = self.dir.join("tiny");
        let options = std::ffi::CString::new(format!("size={bytes},mode=0700"))?;
        mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), options.as_c_str()).context("mounting a tmpfs")?;
        Ok(dir)
    }
}

impl Drop for Lab {
    /// Takes away every mount below, innermost first; loop devices clear themselves.
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.dir.display().to_string();
        for place in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|at| at.starts_with(&dir)) {
            let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Image and extent table of a model.
pub struct Built {
    /// Digest of the image.
    pub image: Digest,
    /// The image.
    pub image_bytes: Vec<u8>,
    /// Digest of the table.
    pub extents: Digest,
    /// The table.
    pub extents_bytes: Vec<u8>,
    /// Length of the blob.
    pub blob_bytes: u64,
}

/// Builds a version of `model`, which extends the table of its predecessor.
pub fn build(dataset: &str, source: &SourceConfig, model: &Model, parent: Option<ExtentTable>) -> Result<Built> {
    let mut table = match &parent {
        Some(parent) => TableBuilder::extending(parent),
        None => TableBuilder::new(dataset.to_owned()),
    };
    let mut image = ImageBuilder::new();
    for (path, file) in model.files() {
        let size = file.bytes.len() as u64;
        let pin = Pin { kind: PinKind::ETag, value: etag(dataset, file) };
        let object = Object { source: source.id(), key: key(file), pin, size };
        let offset = if size == 0 { 0 } else { table.allocate(&object)? };
        image.add_file(path, size, offset)?;
    }
    let (mut extents_bytes, mut image_bytes) = (Vec::new(), Vec::new());
    let extents = table.finish(&mut extents_bytes)?;
    let image = image.finish(extents.blob_bytes, &mut image_bytes)?;
    let (image, extents, blob_bytes) = (image.digest, extents.digest, extents.blob_bytes);
    Ok(Built { image, image_bytes, extents, extents_bytes, blob_bytes })
}
