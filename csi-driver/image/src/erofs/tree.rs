//! The tree of a version in memory: 24 bytes and the name for each file.

use super::{ImageError, path};
use crate::BLOCK_BYTES;

/// A file or directory.
pub(super) struct Node {
    /// Of a file, in bytes.
    pub(super) size: u64,
    name_at: u32,
    /// Index of the directory that it is in.
    pub(super) parent: u32,
    /// Of a file: first block in the blob. Of a directory: its index.
    pub(super) target: u32,
    name_len: u8,
    pub(super) is_directory: bool,
}

/// What only directories have.
pub(super) struct Directory {
    /// Index of its node.
    pub(super) node: u32,
    /// Index of the directory that it is in; the root's own.
    pub(super) parent: u32,
    pub(super) subdirectories: u32,
}

/// All of them, directories in the order in which their first path came.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) directories: Vec<Directory>,
    names: Vec<u8>,
    /// End of the last file in the blob, in blocks.
    pub(super) blob_blocks: u64,
    last_path: String,
    /// The directories of the last path, from the root.
    open: Vec<Open>,
}

/// A directory that more files may still come for.
struct Open {
    directory: u32,
    /// Length of its path with the final slash.
    prefix: usize,
    /// Files of the directory whose names begin the name that came last, each beginning the next one's. A folder that comes
    /// now can have the name of one of these only.
    beginnings: Vec<u32>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node { size: 0, name_at: 0, parent: 0, target: 0, name_len: 0, is_directory: true }],
            directories: vec![Directory { node: 0, parent: 0, subdirectories: 0 }],
            names: Vec::new(),
            blob_blocks: 0,
            last_path: String::new(),
            open: vec![Open { directory: 0, prefix: 0, beginnings: Vec::new() }],
        }
    }

    pub(super) fn name(&self, node: u32) -> &[u8] {
        let node = &self.nodes[node as usize];
        &self.names[node.name_at as usize..][..usize::from(node.name_len)]
    }

    pub(super) fn file_count(&self) -> u64 {
        (self.nodes.len() - self.directories.len()) as u64
    }

    /// See [`ImageBuilder::add_file`](super::ImageBuilder::add_file).
    pub(super) fn add_file(&mut self, path: &str, size: u64, blob_offset: u64) -> Result<(), ImageError> {
        if !path::is_file_path(path) {
            return Err(ImageError::Path(path.to_owned()));
        }
        if path <= self.last_path.as_str() {
            return Err(ImageError::Order(path.to_owned()));
        }
        let block = if size == 0 { Some(0) } else { self.place(size, blob_offset) };
        let block = block.ok_or_else(|| ImageError::Place(path.to_owned()))?;
        self.close_directories_not_above(path);
        self.last_path.clear();
        self.last_path.push_str(path);
        while let Some((name, _)) = path[self.innermost().prefix..].split_once('/') {
            self.keep_beginnings_of(name);
            if self.innermost().beginnings.last().is_some_and(|&file| self.name(file) == name.as_bytes()) {
                return Err(ImageError::FileAndFolder(path.to_owned()));
            }
            self.enter(name)?;
        }
        let name = &path[self.innermost().prefix..];
        self.keep_beginnings_of(name);
        let file = self.push(name, size, block, false)?;
        self.innermost_mut().beginnings.push(file);
        Ok(())
    }

    fn place(&mut self, size: u64, blob_offset: u64) -> Option<u32> {
        let end = blob_offset.checked_add(size)?.div_ceil(BLOCK_BYTES);
        if !blob_offset.is_multiple_of(BLOCK_BYTES) {
            return None;
        }
        self.blob_blocks = self.blob_blocks.max(end);
        u32::try_from(blob_offset / BLOCK_BYTES).ok()
    }

    fn innermost(&self) -> &Open {
        self.open.last().expect("the root is never closed")
    }

    fn innermost_mut(&mut self) -> &mut Open {
        self.open.last_mut().expect("the root is never closed")
    }

    fn close_directories_not_above(&mut self, path: &str) {
        let same = path.bytes().zip(self.last_path.bytes()).take_while(|(a, b)| a == b).count();
        while self.innermost().prefix > same {
            self.open.pop();
        }
    }

    fn keep_beginnings_of(&mut self, name: &str) {
        while let Some(&file) = self.innermost().beginnings.last() {
            if name.as_bytes().starts_with(self.name(file)) {
                break;
            }
            self.innermost_mut().beginnings.pop();
        }
    }

    fn enter(&mut self, name: &str) -> Result<(), ImageError> {
        let directory = to_u32(self.directories.len())?;
        let node = self.push(name, 0, directory, true)?;
        let Open { directory: parent, prefix, .. } = *self.innermost();
        self.directories[parent as usize].subdirectories += 1;
        self.directories.push(Directory { node, parent, subdirectories: 0 });
        self.open.push(Open { directory, prefix: prefix + name.len() + 1, beginnings: Vec::new() });
        Ok(())
    }

    fn push(&mut self, name: &str, size: u64, target: u32, is_directory: bool) -> Result<u32, ImageError> {
        let index = to_u32(self.nodes.len())?;
        let name_at = to_u32(self.names.len())?;
        let name_len = u8::try_from(name.len()).expect("the path is valid, so no name is longer than 255 bytes");
        self.names.extend_from_slice(name.as_bytes());
        self.nodes.push(Node { size, name_at, parent: self.innermost().directory, target, name_len, is_directory });
        Ok(index)
    }
}

/// Counts and addresses of an image are 32 bits wide.
pub(super) fn to_u32(count: impl TryInto<u32>) -> Result<u32, ImageError> {
    count.try_into().map_err(|_| ImageError::TooLarge)
}
