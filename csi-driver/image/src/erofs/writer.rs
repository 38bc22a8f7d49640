use std::io::Write;

use super::{
    ImageError,
    directory::{Blocks, Children, encode_block},
    layout::{BLOCK, DEVICE_ALIGN_BLOCKS, Inode, Kind, NO_BLOCK, ROOT_NID, SLOT_BYTES, Superblock},
    tree::{Tree, to_u32},
};
use crate::{BLOCK_BYTES, Digest, checked_write::DigestWriter};

/// Collects the files of a version and writes their image. Memory: about 32 bytes and its name for each file.
pub struct ImageBuilder {
    tree: Tree,
}

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
        Self { tree: Tree::new() }
    }

    /// Adds a file of `size` bytes that lie at `blob_offset` of the blob (ignored if `size` is 0), making the folders above
    /// it. Paths must come in ascending byte order of the whole path. After an error the file is not there and others can
    /// still be added.
    pub fn add_file(&mut self, path: &str, size: u64, blob_offset: u64) -> Result<(), ImageError> {
        self.tree.add_file(path, size, blob_offset)
    }

    /// Writes the image. The same files give the same bytes.
    pub fn finish(self, blob_bytes: u64, out: &mut impl Write) -> Result<ImageSummary, ImageError> {
        let tree = self.tree;
        if !blob_bytes.is_multiple_of(BLOCK_BYTES) || tree.blob_blocks > blob_bytes / BLOCK_BYTES {
            return Err(ImageError::BlobLength { blob_bytes, needed: tree.blob_blocks.saturating_mul(BLOCK_BYTES) });
        }
        let children = Children::of(&tree);
        let placement = Placement::of(&tree, &children)?;
        let device_start = u64::from(placement.blocks).next_multiple_of(DEVICE_ALIGN_BLOCKS);
        // The last address is the one that means "no block".
        to_u32(device_start + blob_bytes / BLOCK_BYTES)?;
        let superblock = Superblock {
            inode_count: tree.nodes.len() as u64,
            blocks: placement.blocks,
            device_blocks: (blob_bytes / BLOCK_BYTES) as u32,
            device_start: device_start as u32,
        };
        let mut emitter =
            Emitter { out: DigestWriter::new(out), tree: &tree, children: &children, placement: &placement };
        emitter.out.write(&superblock.encode())?;
        emitter.inodes(superblock.device_start)?;
        emitter.directory_blocks()?;
        emitter.out.pad_to(u64::from(placement.blocks) * BLOCK_BYTES)?;
        let (digest, bytes) = emitter.out.finish()?;
        let directory_count = tree.directories.len() as u64;
        Ok(ImageSummary { digest, bytes, file_count: tree.file_count(), directory_count })
    }
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// Where everything lies in the image: the superblock, then each directory's inode followed by those of its files, then the
/// directories' whole blocks.
struct Placement {
    /// For each node.
    nids: Vec<u32>,
    /// For each directory its inode, numbered later.
    directories: Vec<Inode>,
    /// Length of the image.
    blocks: u32,
}

impl Placement {
    fn of(tree: &Tree, children: &Children) -> Result<Self, ImageError> {
        let mut nids = vec![0; tree.nodes.len()];
        let mut directories = Vec::with_capacity(tree.directories.len());
        let mut end = ROOT_NID * SLOT_BYTES;
        let mut whole_blocks = 0u64;
        let mut place = |node: u32, len: u64| -> Result<(), ImageError> {
            let at = end.next_multiple_of(SLOT_BYTES);
            let left_in_block = BLOCK_BYTES - at % BLOCK_BYTES;
            let at = if len > left_in_block { at + left_in_block } else { at };
            nids[node as usize] = to_u32(at / SLOT_BYTES)?;
            end = at + len;
            Ok(())
        };
        for (index, directory) in tree.directories.iter().enumerate() {
            let (full, tail) = shape(Blocks::of(tree, children, index));
            let links = directory.subdirectories + 2;
            let size = full * BLOCK_BYTES + tail;
            let mut inode = Inode { kind: Kind::DirectoryWithInlineTail, size, start: NO_BLOCK, number: 0, links };
            let mut len = inode.len() as u64 + tail;
            if len > BLOCK_BYTES {
                inode.kind = Kind::Directory;
                len -= tail;
            }
            if inode.own_blocks() > 0 {
                inode.start = to_u32(whole_blocks)?;
                whole_blocks += inode.own_blocks();
            }
            place(directory.node, len)?;
            directories.push(inode);
            for &child in children.in_directory(index) {
                let node = &tree.nodes[child as usize];
                if !node.is_directory {
                    place(child, file_inode(node.size, 0, 0).len() as u64)?;
                }
            }
        }
        let first_block = end.div_ceil(BLOCK_BYTES);
        for inode in directories.iter_mut().filter(|inode| inode.start != NO_BLOCK) {
            inode.start = to_u32(first_block + u64::from(inode.start))?;
        }
        Ok(Self { nids, directories, blocks: to_u32(first_block + whole_blocks)? })
    }
}

/// Number of blocks before the last one, and the length of what is in the last.
fn shape(mut blocks: Blocks<'_>) -> (u64, u64) {
    let mut entries = Vec::new();
    let (mut full, mut tail) = (0, blocks.next_into(&mut entries));
    loop {
        match blocks.next_into(&mut entries) {
            0 => return (full, tail as u64),
            used => (full, tail) = (full + 1, used),
        }
    }
}

fn file_inode(size: u64, start: u32, number: u32) -> Inode {
    Inode { kind: Kind::File, size, start: if size == 0 { NO_BLOCK } else { start }, number, links: 1 }
}

struct Emitter<'a, W: Write> {
    out: DigestWriter<'a, W>,
    tree: &'a Tree,
    children: &'a Children,
    placement: &'a Placement,
}

impl<W: Write> Emitter<'_, W> {
    fn inodes(&mut self, device_start: u32) -> Result<(), ImageError> {
        let (mut entries, mut tail) = (Vec::new(), Vec::new());
        for (index, directory) in self.tree.directories.iter().enumerate() {
            let inode = Inode { number: directory.node + 1, ..self.placement.directories[index] };
            self.inode(directory.node, &inode)?;
            if inode.kind == Kind::DirectoryWithInlineTail {
                let mut blocks = Blocks::of(self.tree, self.children, index);
                for _ in 0..=inode.own_blocks() {
                    blocks.next_into(&mut entries);
                }
                tail.clear();
                encode_block(&entries, self.tree, &self.placement.nids, &mut tail);
                self.out.write(&tail)?;
            }
            for &child in self.children.in_directory(index) {
                let node = &self.tree.nodes[child as usize];
                if !node.is_directory {
                    self.inode(child, &file_inode(node.size, device_start.saturating_add(node.target), child + 1))?;
                }
            }
        }
        Ok(())
    }

    fn inode(&mut self, node: u32, inode: &Inode) -> Result<(), ImageError> {
        self.out.pad_to(u64::from(self.placement.nids[node as usize]) * SLOT_BYTES)?;
        self.out.write(&inode.encode()[..inode.len()])?;
        Ok(())
    }

    fn directory_blocks(&mut self) -> Result<(), ImageError> {
        let (mut entries, mut bytes) = (Vec::new(), Vec::with_capacity(BLOCK));
        for (index, inode) in self.placement.directories.iter().enumerate() {
            let mut blocks = Blocks::of(self.tree, self.children, index);
            for block in 0..inode.own_blocks() {
                blocks.next_into(&mut entries);
                bytes.clear();
                encode_block(&entries, self.tree, &self.placement.nids, &mut bytes);
                self.out.pad_to((u64::from(inode.start) + block) * BLOCK_BYTES)?;
                self.out.write(&bytes)?;
            }
        }
        Ok(())
    }
}
