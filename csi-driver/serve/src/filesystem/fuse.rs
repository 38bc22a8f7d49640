//! The tree in FUSE's words.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyOpen, ReplyStatfs, Request,
};
use granary_image::{BLOCK_BYTES, ImageEntry, ImageNode, MAX_NAME_BYTES, MTIME};

use super::tree::{Tree, TreeError};
use crate::blob_reads::{Answer, BlobReads};
use crate::fuse_session::{self, FOREVER};
use crate::journalled::Files;

/// One generation is enough: no number is ever given to another file.
const GENERATION: Generation = Generation(0);

/// A version's files and their bytes.
#[derive(Clone)]
pub(super) struct VersionFilesystem {
    pub(super) tree: Arc<Tree>,
    pub(super) reads: Arc<BlobReads>,
}

/// What the kernel's EROFS shows of the same node.
pub(super) fn attributes(node: &ImageNode) -> FileAttr {
    let is_directory = node.is_directory();
    let time = UNIX_EPOCH + Duration::from_secs(MTIME);
    FileAttr {
        ino: INodeNo(node.number),
        size: node.size(),
        blocks: node.size().div_ceil(BLOCK_BYTES) * (BLOCK_BYTES / 512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: kind(is_directory),
        perm: if is_directory { 0o555 } else { 0o444 },
        nlink: node.links(),
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES as u32,
        flags: 0,
    }
}

fn kind(is_directory: bool) -> FileType {
    if is_directory { FileType::Directory } else { FileType::RegularFile }
}

/// Number 0 says that nothing has the name, and the kernel remembers it.
fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn errno(error: &TreeError) -> Errno {
    match error {
        TreeError::NotADirectory => Errno::ENOTDIR,
        TreeError::IsADirectory => Errno::EISDIR,
        TreeError::Image(error) => {
            tracing::error!(%error, "an image cannot be read");
            Errno::EIO
        }
    }
}

impl VersionFilesystem {
    /// Gives the entries of a directory to `add`, from a position on, until it says that it is full.
    fn list(
        &self,
        directory: INodeNo,
        from: u64,
        mut add: impl FnMut(ImageEntry<'_>) -> Result<bool, TreeError>,
    ) -> Result<(), TreeError> {
        for entry in self.tree.list(directory.0, from)? {
            if add(entry?)? {
                break;
            }
        }
        Ok(())
    }
}

impl Files for VersionFilesystem {
    fn read_file(&self, inode: u64, offset: u64, len: u32, reply: impl Answer) {
        match self.tree.range(inode, offset, u64::from(len)) {
            Ok(range) if range.is_empty() => reply.data(&[]),
            Ok(range) => self.reads.answer(range.start, (range.end - range.start) as usize, reply),
            Err(error) => reply.error(errno(&error)),
        }
    }
}

impl Filesystem for VersionFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        fuse_session::negotiate(config);
        // Attributes come with names. Each is for speed only, and has been there for long.
        for flag in [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_READDIRPLUS_AUTO, InitFlags::FUSE_PARALLEL_DIROPS]
        {
            let _ = config.add_capabilities(flag);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.tree.find(parent.0, name.as_bytes()) {
            Ok(Some(node)) => reply.entry(&FOREVER, &attributes(&node), GENERATION),
            Ok(None) => reply.entry(&FOREVER, &nothing(), GENERATION),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.node(inode.0) {
            Ok(node) => reply.attr(&FOREVER, &attributes(&node)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// Not there: the kernel opens files itself from now on, asks nobody, and keeps their pages.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    /// As [`Self::open`]; the kernel keeps entries, too.
    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read_file(inode.0, offset, size, reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let add = |entry: ImageEntry<'_>| {
            let name = OsStr::from_bytes(entry.name);
            Ok(reply.add(INodeNo(entry.number), entry.next, kind(entry.is_directory), name))
        };
        match self.list(inode, offset, add) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdirplus(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let add = |entry: ImageEntry<'_>| {
            let attributes = attributes(&self.tree.node(entry.number)?);
            let name = OsStr::from_bytes(entry.name);
            Ok(reply.add(attributes.ino, entry.next, name, &FOREVER, &attributes, GENERATION))
        };
        match self.list(inode, offset, add) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let totals = self.tree.totals();
        let block = BLOCK_BYTES as u32;
        reply.statfs(totals.blocks, 0, 0, totals.nodes, 0, block, MAX_NAME_BYTES as u32, block);
    }
}
