//! What the CSI services need of the data plane, behind one trait.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use granary_crds::node_cache::{DatasetReport, Layout, PoolReport};
use granary_crds::{DataStorageClass, Dataset, DatasetVersion};

/// Keys and values of a Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub BTreeMap<String, String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What shall be mounted: objects that the API server had at the moment of the decision.
#[derive(Clone, Debug)]
pub struct Content {
    /// The dataset.
    pub dataset: Dataset,
    /// The version of it.
    pub version: DatasetVersion,
    /// Its class.
    pub class: DataStorageClass,
    /// The keys of its sources; none if the dataset names no Secret.
    pub secret: Option<Secret>,
}

/// Mounts datasets and caches them.
#[async_trait]
pub trait Mounter: Send + Sync {
    /// Whether this kernel can mount at all; if not, why.
    fn support(&self) -> Result<Layout, String>;
    /// Whether something is published at `target`.
    fn is_published(&self, target: &Path) -> bool;
    /// Mounts `content` at `target`, without waiting for data. Doing it again is harmless.
    async fn publish(&self, volume_id: &str, target: &Path, content: Content) -> Result<(), MountError>;
    /// New keys for what is published as `volume_id`.
    fn refresh_secret(&self, volume_id: &str, secret: Secret);
    /// Takes away what is mounted at `target`, and the directory. Doing it again is harmless.
    async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<(), MountError>;
    /// Opens the cache of a class, or gives an open one the class's present limits.
    fn configure(&self, class: &DataStorageClass) -> Result<(), MountError>;
    /// What is cached and published now.
    fn report(&self) -> MountReport;
}

/// What is cached and published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MountReport {
    /// One for each class.
    pub pools: Vec<PoolReport>,
    /// One for each dataset.
    pub datasets: Vec<DatasetReport>,
    /// Sums over all datasets since the process started.
    pub traffic: Traffic,
    /// Sums over all caches since the process started.
    pub scrub: Scrub,
}

/// What was read, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Reads that the cache answered.
    pub hits: u64,
    /// Reads that waited for a source.
    pub misses: u64,
    /// From sources, in bytes.
    pub source_bytes: u64,
    /// Requests to sources.
    pub source_requests: u64,
    /// To the kernel, in bytes.
    pub served_bytes: u64,
    /// From sources before anybody asked, in bytes.
    pub prefetched_bytes: u64,
    /// Of those, in parts that somebody read then, in bytes.
    pub prefetch_used_bytes: u64,
    /// From sources and past the cache, which had no room or took no writes, in bytes.
    pub uncached_bytes: u64,
    /// Writes that the cache's filesystem refused.
    pub failed_writes: u64,
}

/// What the caches were checked for, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// Compared with their checksums in the background, in bytes.
    pub checked_bytes: u64,
    /// Times that all of a cache was checked.
    pub passes: u64,
    /// Parts that were damaged.
    pub damaged_parts: u64,
    /// Of those, parts that were written anew in place.
    pub repaired_parts: u64,
}

/// Why something could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel cannot.
    #[error("this node cannot mount datasets: {0}")]
    Unsupported(String),
    /// The version or its class says something that this release does not understand.
    #[error("{0}")]
    Invalid(String),
    /// An image or an extent table could not be had, or is damaged.
    #[error("{0}")]
    Artifact(String),
    /// The class's cache cannot be used.
    #[error("{0}")]
    Cache(String),
    /// Anything else that went wrong on the node.
    #[error("{0}")]
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret([("AWS_SECRET_ACCESS_KEY".to_owned(), "hush".to_owned())].into());
        assert_eq!(format!("{secret:?}"), "{\"AWS_SECRET_ACCESS_KEY\"}");
    }
}
