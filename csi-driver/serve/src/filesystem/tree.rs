//! A version as a filesystem: what is called how, and which bytes of the blob a file has. It knows nothing of FUSE but its
//! number for the root.

use std::ops::Range;

use granary_image::{Entries, ImageError, ImageNode, ImageReader};

/// What FUSE calls the root, in whatever filesystem. No image has a node of this number.
pub(crate) const ROOT: u64 = 1;

/// The files of a version. The image must have been validated.
pub(crate) struct Tree(ImageReader);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// Names were asked of a file.
    #[error("a file has no entries")]
    NotADirectory,
    /// Bytes were asked of a directory.
    #[error("a directory has no bytes")]
    IsADirectory,
    /// The image was right when it was validated, so the disk has changed it.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What the whole filesystem has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Of image and blob, in blocks.
    pub(crate) blocks: u64,
    /// Files and directories.
    pub(crate) nodes: u64,
}

impl Tree {
    pub(crate) fn new(image: ImageReader) -> Self {
        Self(image)
    }

    /// What has this number.
    pub(crate) fn node(&self, number: u64) -> Result<ImageNode, TreeError> {
        Ok(self.0.node(if number == ROOT { ImageReader::ROOT } else { number })?)
    }

    /// What is called `name` in a directory, if anything is.
    pub(crate) fn find(&self, directory: u64, name: &[u8]) -> Result<Option<ImageNode>, TreeError> {
        let found = self.0.find(&self.directory(directory)?, name)?;
        found.map(|number| self.node(number)).transpose()
    }

    /// The entries of a directory from a position on: 0, or what an entry had as its next.
    pub(crate) fn list(&self, directory: u64, from: u64) -> Result<Entries<'_>, TreeError> {
        Ok(self.0.entries(&self.directory(directory)?, from))
    }

    /// Where `len` bytes from `offset` of a file lie in the blob: fewer at its end, none beyond.
    pub(crate) fn range(&self, file: u64, offset: u64, len: u64) -> Result<Range<u64>, TreeError> {
        let node = self.node(file)?;
        if node.is_directory() {
            return Err(TreeError::IsADirectory);
        }
        let (Some(start), Some(left)) = (node.blob_offset, node.size().checked_sub(offset)) else { return Ok(0..0) };
        Ok(start + offset..start + offset + left.min(len))
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals { blocks: self.0.blocks(), nodes: self.0.inode_count() }
    }

    fn directory(&self, number: u64) -> Result<ImageNode, TreeError> {
        let node = self.node(number)?;
        if node.is_directory() { Ok(node) } else { Err(TreeError::NotADirectory) }
    }
}
