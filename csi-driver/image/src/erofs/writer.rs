use std::io::Write;

use super::ImageError;
use crate::Digest;

/// Collects the files of a version and writes their image.
#[derive(Default)]
pub struct ImageBuilder {}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Content address of the image.
    pub digest: Digest,
    /// Length of the image in bytes.
    pub bytes: u64,
    /// Number of files.
    pub file_count: u64,
    /// Number of directories, the root included.
    pub directory_count: u64,
}

impl ImageBuilder {
    /// An image with an empty root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file of `size` bytes that lie at `blob_offset` of the blob (ignored if `size` is 0), making the folders above
    /// it. Paths must come in ascending byte order of the whole path.
    pub fn add_file(&mut self, path: &str, size: u64, blob_offset: u64) -> Result<(), ImageError> {
        let _ = (path, size, blob_offset);
        todo!()
    }

    /// Writes the image. The same files give the same bytes.
    pub fn finish(self, blob_bytes: u64, out: &mut impl Write) -> Result<ImageSummary, ImageError> {
        let _ = (blob_bytes, out);
        todo!()
    }
}
