//! One blob, read by offset.

use granary_image::ExtentTable;

use crate::error::{PoolError, ReadError};
use crate::stats::{BlobStats, ReadErrorCount};

/// One blob of a pool.
pub struct Blob;

impl Blob {
    /// Length in bytes, by the longest extent table so far.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        unimplemented!()
    }
    /// The longest extent table so far.
    pub fn table(&self) -> ExtentTable {
        unimplemented!()
    }
    /// Takes a longer extent table.
    pub fn extend(&self, table: ExtentTable) -> Result<(), PoolError> {
        let _ = table;
        unimplemented!()
    }
    /// Fills `buf` if all its parts are present and checked.
    pub fn read_cached(&self, offset: u64, buf: &mut [u8]) -> Result<bool, ReadError> {
        let _ = (offset, buf);
        unimplemented!()
    }
    /// Fills `buf`, fetching what is absent.
    pub async fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let _ = (offset, buf);
        unimplemented!()
    }
    /// Bytes of it in the cache, rounded up to blocks.
    pub fn cached_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Reads that failed since it was opened.
    pub fn read_errors(&self) -> Vec<ReadErrorCount> {
        unimplemented!()
    }
    /// What was moved since it was opened.
    pub fn stats(&self) -> BlobStats {
        unimplemented!()
    }
}
