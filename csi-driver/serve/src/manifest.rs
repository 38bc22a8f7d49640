//! What a version is made of, as the server is told.

use std::path::Path;

use async_trait::async_trait;
use granary_blob::BlobTag;
use granary_fetch::{SourceConfig, SourcePolicy};
use granary_image::Digest;
use serde::{Deserialize, Serialize};

/// Everything that is needed to mount a version, but no credential. It is kept beside the mount for a successor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionManifest {
    /// The dataset that it is a version of.
    pub dataset: BlobTag,
    /// The version's name, for reports.
    pub version: String,
    /// The EROFS image.
    pub image: Digest,
    /// Its length in bytes.
    pub image_bytes: u64,
    /// The extent table.
    pub extents: Digest,
    /// Its length in bytes.
    pub extents_bytes: u64,
    /// The blob that the image points into.
    pub blob_id: String,
    /// The blob's length as of this version, in bytes; whole blocks.
    pub blob_bytes: u64,
    /// Where the objects are.
    pub sources: Vec<SourceConfig>,
    /// The cache, by the name of its class.
    pub pool: String,
    /// What the sources may use of this machine.
    pub policy: SourcePolicy,
    /// Whether everything is filled in the background, below demand, while the version is mounted. A record without it is of an older
    /// release, and means no.
    #[serde(default)]
    pub preload: bool,
}

impl VersionManifest {
    /// The name of the version's own directory, unique on this node.
    pub(crate) fn key(&self) -> String {
        let parts = [&self.dataset.dataset_uid, &self.version, &self.image.hex(), &self.blob_id, &self.pool];
        let mut key = Digest::of(parts.map(String::as_str).join("\0").as_bytes()).hex();
        key.truncate(32);
        key
    }
}

/// Where images and extent tables come from.
#[async_trait]
pub trait ArtifactStore: Send + Sync {
    /// Puts the artifact `digest`, of `bytes` bytes, into the new file `to`. The server checks its digest.
    async fn fetch(&self, digest: &Digest, bytes: u64, to: &Path) -> Result<(), ArtifactError>;
}

/// Why an artifact could not be had: a sentence without any credential.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ArtifactError(pub String);
