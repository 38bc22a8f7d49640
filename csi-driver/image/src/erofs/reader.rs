use std::{collections::HashSet, path::Path, sync::Arc};

use super::{
    ImageError, is_file_path,
    layout::{BLOCK, DIRENT_BYTES, Dirent, Inode, Kind, NO_BLOCK, ROOT_NID, SLOT_BYTES, Superblock},
};
use crate::{BLOCK_BYTES, ExtentTable, mapped::Mapped, parts::FOREIGN_FILE};

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

/// Reads an image as hostile input: whatever [`ImageBuilder`](super::ImageBuilder) would not have written is an error, so
/// that a kernel only ever gets to see images whose every structure was looked at. Clones share the image.
#[derive(Clone)]
pub struct ImageReader {
    bytes: Arc<Mapped>,
    pub(super) superblock: Superblock,
}

impl ImageReader {
    /// Maps the image at `path` and checks its superblock. [`validate`](Self::validate) checks the rest.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let bytes = Mapped::open(path).map_err(|source| ImageError::Open { path: path.to_owned(), source })?;
        Self::checked(bytes)
    }

    /// Reads an image that lies in memory, see [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImageError> {
        Self::checked(Mapped::Memory(bytes))
    }

    /// All files, each directory's entries in byte order of their names. Everything is checked on the way; the iterator
    /// ends after the first error. It ends for every input, after as many files as the image has inodes.
    pub fn files(&self) -> Files<'_> {
        Files {
            image: self,
            started: false,
            open: Vec::new(),
            path: String::new(),
            seen: HashSet::new(),
            inodes_left: self.superblock.inode_count,
        }
    }

    /// Length of the blob that the image expects, in bytes.
    pub fn blob_bytes(&self) -> u64 {
        u64::from(self.superblock.device_blocks) * BLOCK_BYTES
    }

    /// Number of files and directories, the root included, as the superblock has it. Walking the files checks it.
    pub fn inode_count(&self) -> u64 {
        self.superblock.inode_count
    }

    /// Walks through the whole image: every structure is one of ours, and every file is exactly one object of `table`.
    /// To be done before an image is given to a kernel.
    pub fn validate(&self, table: &ExtentTable) -> Result<(), ImageError> {
        if self.blob_bytes() > table.blob_bytes() {
            return Err(ImageError::Damaged("its blob is longer than the extent table's"));
        }
        let mut next = 0;
        for file in self.files() {
            let file = file?;
            let Some(offset) = file.blob_offset else { continue };
            if table.object_at(&mut next, offset).is_none_or(|object| object.size != file.size) {
                return Err(FOREIGN_FILE);
            }
        }
        Ok(())
    }

    /// Gives back the memory of what was read of a mapped image; it is read again when it is needed.
    pub fn release_pages(&self) {
        self.bytes.release_pages();
    }

    fn checked(bytes: Mapped) -> Result<Self, ImageError> {
        let block: &[u8; BLOCK] = bytes.first_chunk().ok_or(ImageError::Damaged("shorter than one block"))?;
        let superblock =
            Superblock::decode(block).ok_or(ImageError::Damaged("its superblock is none that Granary writes"))?;
        if bytes.len() as u64 != u64::from(superblock.blocks) * BLOCK_BYTES {
            return Err(ImageError::Damaged("its length is not what the superblock says"));
        }
        if superblock.inode_count > bytes.len() as u64 / SLOT_BYTES {
            return Err(ImageError::Damaged("it says that it has more files than could be in it"));
        }
        let device = (u64::from(superblock.device_start), u64::from(superblock.device_blocks));
        if device.0 < u64::from(superblock.blocks) || device.0 + device.1 > u64::from(NO_BLOCK) {
            return Err(ImageError::Damaged("the blob's addresses overlap the image's or are too large"));
        }
        Ok(Self { bytes: Arc::new(bytes), superblock })
    }

    pub(super) fn inode(&self, nid: u64) -> Result<Inode, ImageError> {
        let at = nid.checked_mul(SLOT_BYTES).and_then(|at| usize::try_from(at).ok());
        let bytes = at.filter(|&at| at >= BLOCK).and_then(|at| self.bytes.get(at..));
        bytes.and_then(Inode::decode).ok_or(ImageError::Damaged("an inode is none that Granary writes"))
    }

    /// The bytes of a block of the directory `nid`, which `directory` must have.
    pub(super) fn directory_block(&self, nid: u64, directory: &Inode, block: u64) -> Result<&[u8], ImageError> {
        const OUTSIDE: ImageError = ImageError::Damaged("a directory lies outside of the image");
        let Inode { kind, size, start, .. } = *directory;
        // Nothing below can be too large a number.
        if size > self.bytes.len() as u64 {
            return Err(OUTSIDE);
        }
        let len = (size - block * BLOCK_BYTES).min(BLOCK_BYTES);
        let at = if kind == Kind::DirectoryWithInlineTail && block == size / BLOCK_BYTES {
            let at = nid * SLOT_BYTES + directory.len() as u64;
            if at % BLOCK_BYTES + len > BLOCK_BYTES {
                return Err(ImageError::Damaged("a directory's tail crosses a block"));
            }
            at
        } else {
            (u64::from(start) + block) * BLOCK_BYTES
        };
        let range = usize::try_from(at).ok().zip(usize::try_from(at + len).ok());
        range.and_then(|(start, end)| self.bytes.get(start..end)).ok_or(OUTSIDE)
    }

    /// First byte of a file in the blob; `None` of an empty one.
    pub(super) fn blob_offset(&self, file: &Inode) -> Result<Option<u64>, ImageError> {
        if file.size == 0 {
            return Ok(None);
        }
        let first = file.start.checked_sub(self.superblock.device_start).map(u64::from);
        let inside = |first: &u64| file.own_blocks() <= u64::from(self.superblock.device_blocks).saturating_sub(*first);
        match first.filter(inside) {
            Some(first) => Ok(Some(first * BLOCK_BYTES)),
            None => Err(ImageError::Damaged("a file lies outside of the blob")),
        }
    }
}

/// The files of an image, see [`ImageReader::files`].
pub struct Files<'a> {
    image: &'a ImageReader,
    started: bool,
    /// The directories from the root to the current one.
    open: Vec<Open>,
    /// Of the innermost of them, with a final slash.
    path: String,
    /// Directories that were entered: each may be once.
    seen: HashSet<u64>,
    inodes_left: u64,
}

/// A directory whose entries are being read.
struct Open {
    nid: u64,
    inode: Inode,
    parent: u64,
    path_len: usize,
    block: u64,
    entry: usize,
    last_name: Vec<u8>,
    dots: u32,
    subdirectories: u32,
}

impl Files<'_> {
    fn enter(&mut self, nid: u64, inode: Inode, parent: u64) -> Result<(), ImageError> {
        if !self.seen.insert(nid) {
            return Err(ImageError::Damaged("a directory is reached twice"));
        }
        let path_len = self.path.len();
        let (block, entry, dots, subdirectories) = (0, 0, 0, 0);
        self.open.push(Open {
            nid,
            inode,
            parent,
            path_len,
            block,
            entry,
            last_name: Vec::new(),
            dots,
            subdirectories,
        });
        Ok(())
    }

    fn count_inode(&mut self) -> Result<(), ImageError> {
        self.inodes_left =
            self.inodes_left.checked_sub(1).ok_or(ImageError::Damaged("it has more files than it says"))?;
        Ok(())
    }

    /// The next file, if the next entry is one; `Ok(None)` after an entry that is none.
    fn step(&mut self) -> Result<Option<ImageFile>, ImageError> {
        let image = self.image;
        let directory = self.open.last_mut().expect("the caller saw that a directory is open");
        if directory.block * BLOCK_BYTES >= directory.inode.size {
            if directory.dots != 2 || u64::from(directory.inode.links) != u64::from(directory.subdirectories) + 2 {
                return Err(ImageError::Damaged("a directory lacks '.' or '..', or its link count is wrong"));
            }
            self.open.pop();
            self.path.truncate(self.open.last().map_or(0, |parent| parent.path_len));
            return Ok(None);
        }
        let bytes = image.directory_block(directory.nid, &directory.inode, directory.block)?;
        let (entry, name, is_last) = entry_at(bytes, directory.entry)?;
        if name <= directory.last_name.as_slice() {
            return Err(ImageError::Damaged("a directory's names are not in order"));
        }
        directory.last_name.clear();
        directory.last_name.extend_from_slice(name);
        directory.entry += 1;
        if is_last {
            (directory.block, directory.entry) = (directory.block + 1, 0);
        }
        let own = match name {
            b"." => Some(directory.nid),
            b".." => Some(directory.parent),
            _ => None,
        };
        if let Some(nid) = own {
            directory.dots += 1;
            let fits = entry.nid == nid && entry.is_directory;
            return if fits { Ok(None) } else { Err(ImageError::Damaged("'.' or '..' leads elsewhere")) };
        }
        let name = std::str::from_utf8(name).map_err(|_| ImageError::Damaged("a name is not UTF-8"))?;
        let inode = image.inode(entry.nid)?;
        if entry.is_directory == (inode.kind == Kind::File) {
            return Err(ImageError::Damaged("an entry and its inode are of different kinds"));
        }
        let parent = directory.nid;
        directory.subdirectories += u32::from(entry.is_directory);
        self.path.truncate(directory.path_len);
        self.path.push_str(name);
        self.count_inode()?;
        if !is_file_path(&self.path) || name.contains('/') {
            return Err(ImageError::Damaged("a path is none that can be opened"));
        }
        if entry.is_directory {
            self.path.push('/');
            self.enter(entry.nid, inode, parent)?;
            return Ok(None);
        }
        let blob_offset = image.blob_offset(&inode)?;
        Ok(Some(ImageFile { path: self.path.clone(), size: inode.size, blob_offset }))
    }

    fn start(&mut self) -> Result<(), ImageError> {
        self.count_inode()?;
        let root = self.image.inode(ROOT_NID)?;
        if root.kind == Kind::File {
            return Err(ImageError::Damaged("its root is no directory"));
        }
        self.enter(ROOT_NID, root, ROOT_NID)
    }

    fn advance(&mut self) -> Result<Option<ImageFile>, ImageError> {
        if !self.started {
            self.started = true;
            self.start()?;
        }
        while !self.open.is_empty() {
            if let Some(file) = self.step()? {
                return Ok(Some(file));
            }
            if self.open.is_empty() && self.inodes_left > 0 {
                return Err(ImageError::Damaged("it has fewer files than it says"));
            }
        }
        Ok(None)
    }
}

impl Iterator for Files<'_> {
    type Item = Result<ImageFile, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.open.clear();
        }
        next.transpose()
    }
}

/// Entry `index` of a directory's block, its name, and whether it is the block's last. Zeros fill a whole block.
pub(super) fn entry_at(block: &[u8], index: usize) -> Result<(Dirent, &[u8], bool), ImageError> {
    find_entry(block, index).ok_or(FOREIGN_BLOCK)
}

/// Number of entries of a directory's block.
pub(super) fn entry_count(block: &[u8]) -> Result<usize, ImageError> {
    count_entries(block).ok_or(FOREIGN_BLOCK)
}

const FOREIGN_BLOCK: ImageError = ImageError::Damaged("a directory's block is none that Granary writes");

/// The names begin where the fixed parts end, which tells how many there are.
fn count_entries(block: &[u8]) -> Option<usize> {
    let names_at = usize::from(dirent_at(block, 0)?.name_at);
    names_at.is_multiple_of(DIRENT_BYTES).then_some(names_at / DIRENT_BYTES)
}

fn dirent_at(block: &[u8], index: usize) -> Option<Dirent> {
    Dirent::decode(block.get(index * DIRENT_BYTES..)?)
}

fn find_entry(block: &[u8], index: usize) -> Option<(Dirent, &[u8], bool)> {
    let count = count_entries(block)?;
    if index >= count {
        return None;
    }
    let is_last = index + 1 == count;
    let entry = dirent_at(block, index)?;
    let start = usize::from(entry.name_at);
    let end = if is_last { block.len() } else { usize::from(dirent_at(block, index + 1)?.name_at) };
    let mut name = block.get(start..end)?;
    if is_last && block.len() == BLOCK {
        let len = name.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        name = &name[..len];
    }
    let valid = start >= count * DIRENT_BYTES && !name.is_empty() && !name.contains(&0);
    valid.then_some((entry, name, is_last))
}
