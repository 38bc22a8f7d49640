//! A pool of blobs in one directory.

use std::sync::Arc;

use granary_image::ExtentTable;
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::budget::{PoolConfig, PoolUsage};
use crate::error::PoolError;
use crate::origin::Origin;
use crate::stats::ReadErrorCount;

/// The dataset that a blob is of; kept beside the blob, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobTag {
    /// The dataset's UID.
    pub dataset_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a pool holds of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobUsage {
    /// The dataset that it is of.
    pub tag: BlobTag,
    /// The blob's id.
    pub blob_id: String,
    /// Bytes of it in the cache, rounded up to blocks.
    pub cached_bytes: u64,
    /// Reads that failed since it was opened.
    pub read_errors: Vec<ReadErrorCount>,
}

/// One cache directory with its limits.
pub struct Pool;

impl Pool {
    /// Opens the cache in `config.dir`. Panics outside of a tokio runtime, where its background work goes on.
    pub fn open(config: PoolConfig) -> Result<Arc<Pool>, PoolError> {
        let _ = config;
        unimplemented!()
    }
    /// Sets new limits; the directory stays.
    pub fn reconfigure(&self, config: PoolConfig) -> Result<(), PoolError> {
        let _ = config;
        unimplemented!()
    }
    /// What the pool takes and may take.
    pub fn usage(&self) -> PoolUsage {
        unimplemented!()
    }
    /// Opens or creates a blob.
    pub fn blob(
        self: &Arc<Self>,
        tag: BlobTag,
        table: ExtentTable,
        origin: Arc<dyn Origin>,
    ) -> Result<Arc<Blob>, PoolError> {
        let _ = (tag, table, origin);
        unimplemented!()
    }
    /// All blobs that have a place in the pool, open or not.
    pub fn blobs(&self) -> Vec<BlobUsage> {
        unimplemented!()
    }
    /// Makes durable what is present.
    pub async fn flush(&self) {
        unimplemented!()
    }
}
