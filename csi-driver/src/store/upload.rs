//! What is sent to the image store: compressed once, however often it is sent.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use granary_crds::exchange::coding::compress;

use super::StoreError;

/// A compressed copy of a file, removed when dropped.
pub(super) struct Packed(PathBuf);

impl Packed {
    /// Compresses the `bytes` bytes of `file` into a file beside it.
    pub(super) async fn make(file: &Path, bytes: u64) -> Result<Self, StoreError> {
        let (from, mut to) = (file.to_owned(), OsString::from(file));
        to.push(".zst");
        let packed = Self(to.into());
        let path = packed.0.clone();
        let made = tokio::task::spawn_blocking(move || compress(File::open(from)?, bytes, File::create(path)?));
        let made = made.await.map_err(io::Error::other).and_then(|made| made);
        made.map_err(|error| StoreError::file("compress", file, error))?;
        Ok(packed)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        // What stays goes with the directory that it is in.
        let _ = std::fs::remove_file(&self.0);
    }
}
