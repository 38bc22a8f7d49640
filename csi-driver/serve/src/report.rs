//! What a server has mounted and cached.

use granary_blob::{BlobStats, BlobTag, PoolUsage, ReadErrorCount};

/// What a server has mounted and cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every open pool, by the name of its class.
    pub pools: Vec<(String, PoolUsage)>,
    /// Every dataset with something mounted or cached.
    pub datasets: Vec<DatasetReport>,
    /// Sums over all blobs since the server started.
    pub traffic: BlobStats,
}

/// One dataset on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetReport {
    /// The dataset.
    pub tag: BlobTag,
    /// Bytes of it in caches, rounded up to blocks.
    pub cached_bytes: u64,
    /// Versions that are published, with the number of targets.
    pub versions: Vec<(String, u32)>,
    /// Reads that failed since its blobs were opened.
    pub read_errors: Vec<ReadErrorCount>,
}
