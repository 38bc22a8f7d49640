//! Single steps through an image, as a filesystem is asked for them: one number, one name, one directory.

use super::{
    ImageError, ImageReader,
    layout::{Inode, Kind, ROOT_NID},
    reader::{entry_at, entry_count},
};
use crate::BLOCK_BYTES;

/// A file or directory of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageNode {
    /// Its number in the image, which is the inode number that the kernel's EROFS shows.
    pub number: u64,
    /// First byte in the blob; `None` of an empty file and of a directory.
    pub blob_offset: Option<u64>,
    inode: Inode,
}

impl ImageNode {
    /// Whether it is a directory; a file otherwise.
    pub fn is_directory(&self) -> bool {
        self.inode.kind != Kind::File
    }

    /// Length in bytes; of a directory, that of its entries.
    pub fn size(&self) -> u64 {
        self.inode.size
    }

    /// Number of names that lead to it.
    pub fn links(&self) -> u32 {
        self.inode.links
    }
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageEntry<'a> {
    /// The name: one part of a path, `.` or `..`.
    pub name: &'a [u8],
    /// Where it leads.
    pub number: u64,
    /// Whether that is a directory.
    pub is_directory: bool,
    /// Position of the next entry, for [`ImageReader::entries`].
    pub next: u64,
}

impl ImageReader {
    /// Number of the root directory in every image.
    pub const ROOT: u64 = ROOT_NID;

    /// What has this number. Numbers come from entries: another one is an error or leads to a node that nobody named.
    pub fn node(&self, number: u64) -> Result<ImageNode, ImageError> {
        let inode = self.inode(number)?;
        let blob_offset = if inode.kind == Kind::File { self.blob_offset(&inode)? } else { None };
        Ok(ImageNode { number, blob_offset, inode })
    }

    /// The number of what is called `name` in `directory`; `None` if nothing is. A file has no names.
    pub fn find(&self, directory: &ImageNode, name: &[u8]) -> Result<Option<u64>, ImageError> {
        // The last block whose first name is not above the wanted one.
        let (mut low, mut high) = (0, directory.blocks());
        while low < high {
            let middle = low + (high - low) / 2;
            let (_, first, _) = entry_at(self.block(directory, middle)?, 0)?;
            if first <= name { low = middle + 1 } else { high = middle }
        }
        if low == 0 {
            return Ok(None);
        }
        let block = self.block(directory, low - 1)?;
        let (mut low, mut high) = (0, entry_count(block)?);
        while low < high {
            let middle = low + (high - low) / 2;
            let (entry, found, _) = entry_at(block, middle)?;
            match found.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(entry.nid)),
            }
        }
        Ok(None)
    }

    /// The entries of `directory` in byte order of their names, from a position on: 0, or what an entry had as its next. Any
    /// other gives some of them or none. A file has none.
    pub fn entries(&self, directory: &ImageNode, from: u64) -> Entries<'_> {
        let index = (from % BLOCK_BYTES) as usize;
        Entries { image: self, directory: *directory, block: from / BLOCK_BYTES, index }
    }

    /// Length of image and blob, in blocks.
    pub fn blocks(&self) -> u64 {
        u64::from(self.superblock.blocks) + u64::from(self.superblock.device_blocks)
    }

    fn block(&self, directory: &ImageNode, block: u64) -> Result<&[u8], ImageError> {
        self.directory_block(directory.number, &directory.inode, block)
    }
}

impl ImageNode {
    /// Number of blocks with entries.
    fn blocks(&self) -> u64 {
        if self.is_directory() { self.size().div_ceil(BLOCK_BYTES) } else { 0 }
    }
}

/// Entries of a directory, see [`ImageReader::entries`]. They end after an error.
pub struct Entries<'a> {
    image: &'a ImageReader,
    directory: ImageNode,
    block: u64,
    index: usize,
}

impl<'a> Entries<'a> {
    fn advance(&mut self) -> Result<Option<ImageEntry<'a>>, ImageError> {
        while self.block < self.directory.blocks() {
            let block = self.image.block(&self.directory, self.block)?;
            if self.index >= entry_count(block)? {
                (self.block, self.index) = (self.block + 1, 0);
                continue;
            }
            let (entry, name, is_last) = entry_at(block, self.index)?;
            (self.block, self.index) = if is_last { (self.block + 1, 0) } else { (self.block, self.index + 1) };
            let next = self.block * BLOCK_BYTES + self.index as u64;
            return Ok(Some(ImageEntry { name, number: entry.nid, is_directory: entry.is_directory, next }));
        }
        Ok(None)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<ImageEntry<'a>, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.block = u64::MAX;
        }
        next.transpose()
    }
}
