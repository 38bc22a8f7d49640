//! What the node asks the API server, behind one trait.

mod kubernetes;
mod memory;
mod remembering;

use async_trait::async_trait;
use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion, NodeCacheStatus};

pub use kubernetes::KubernetesCluster;
pub use remembering::Remembering;

/// The API server's view of datasets, and the node's two ways to tell it something.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// A Dataset; none if there is none of this name.
    async fn dataset(&self, namespace: &str, name: &str) -> Result<Option<Dataset>, ClusterError>;
    /// A DatasetVersion; none if there is none of this name.
    async fn version(&self, namespace: &str, name: &str) -> Result<Option<DatasetVersion>, ClusterError>;
    /// The versions that are labelled as this dataset's. A label proves nothing: see who owns them.
    async fn versions(&self, namespace: &str, dataset: &str) -> Result<Vec<DatasetVersion>, ClusterError>;
    /// All grants of a namespace.
    async fn grants(&self, namespace: &str) -> Result<Vec<DatasetGrant>, ClusterError>;
    /// A DataStorageClass; none if there is none of this name.
    async fn class(&self, name: &str) -> Result<Option<DataStorageClass>, ClusterError>;
    /// All classes.
    async fn classes(&self) -> Result<Vec<DataStorageClass>, ClusterError>;
    /// Writes this node's own NodeCache, making it if need be.
    async fn put_node_cache(&self, status: &NodeCacheStatus) -> Result<(), ClusterError>;
    /// Tells users of a trouble of this node, by an event on its Node.
    async fn warn(&self, reason: &str, note: &str) -> Result<(), ClusterError>;
}

/// The API server did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {message}")]
pub struct ClusterError {
    /// What was attempted.
    pub action: String,
    /// What the API server, or the way to it, said.
    pub message: String,
    /// Whether nobody answered, or somebody who cannot answer now: what was asked about may be as it was before.
    pub away: bool,
}
