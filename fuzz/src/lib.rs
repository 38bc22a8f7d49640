//! What the fuzz targets share. Each target, in `fuzz_targets/`, feeds one reader of input that others wrote, and checks what must
//! hold of whatever it accepts. What is only reachable inside a crate has an entry there, in its `fuzz.rs`.

use std::path::Path;
use std::sync::LazyLock;

use granary_image::BLOCK_BYTES;
use tempfile::TempDir;

pub mod seal;

/// An image, which says in its superblock how long it is, and what follows it.
pub fn split_image(bytes: &[u8]) -> (&[u8], &[u8]) {
    const BLOCKS_AT: usize = 1024 + 36;
    let blocks =
        bytes.get(BLOCKS_AT..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let length = u64::from(blocks) * BLOCK_BYTES;
    bytes.split_at(length.min(bytes.len() as u64) as usize)
}

/// Directory of this process for files that a reader wants to have on a disk. Whoever starts the target removes it: `TMPDIR`.
pub fn scratch() -> &'static Path {
    static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary directory"));
    DIR.path()
}
