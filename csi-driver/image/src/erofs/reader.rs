use std::{marker::PhantomData, path::Path};

use super::ImageError;

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Path from the root, without a leading slash.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// First byte in the blob; `None` for an empty file.
    pub blob_offset: Option<u64>,
}

/// Reads an image as hostile input.
#[derive(Clone)]
pub struct ImageReader {}

/// The files of an image, see [`ImageReader::files`].
pub struct Files<'a> {
    image: PhantomData<&'a ImageReader>,
}

impl ImageReader {
    /// Maps the image at `path` and checks its superblock.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let _ = path;
        todo!()
    }

    /// Reads an image that lies in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImageError> {
        let _ = bytes;
        todo!()
    }

    /// All files, each directory's entries in byte order of their names. Everything is checked on the way; the iterator
    /// ends after the first error.
    pub fn files(&self) -> Files<'_> {
        Files { image: PhantomData }
    }

    /// Length of the blob that the image expects, in bytes.
    pub fn blob_bytes(&self) -> u64 {
        todo!()
    }
}

impl Iterator for Files<'_> {
    type Item = Result<ImageFile, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.image;
        todo!()
    }
}
