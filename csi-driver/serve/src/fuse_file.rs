//! One FUSE filesystem with one file, a blob, for loop devices to be bound to.
//!
//! The mount is never attached to a directory: loop devices need an open file and nothing else, and what is nowhere to be
//! seen cannot be read by others, nor be left behind. It lives as long as somebody has the file open, this process or a
//! loop device.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use crate::apart;
use crate::blob_reads::{Answer, BlobReads, Service};
use crate::fuse_session::{self, FOREVER, Options, Started};
use crate::journalled::Files;
use crate::keeping::{Keeping, Kept};
use crate::loops::{BLOB_FILE, LoopDevice};

/// Length of every blob's file, in bytes: more than any blob has, so that a growing blob keeps its file. Loop devices are
/// limited to what a version has, and `LOOP_CHANGE_FD` wants files of one length.
pub(crate) const FILE_BYTES: u64 = 16 << 40;

/// What files are kept as, without a journal and with one, before the name of the blob. A release that answers the kernel
/// otherwise, or has another journal, has another number: it must not go on with these.
const KEPT_AS: [&str; 2] = ["blob-1/", "blob-journal-1/"];

const FILE_INODE: INodeNo = INodeNo(2);

/// The file of one blob. When this is dropped, reads fail.
pub(crate) struct FuseFile {
    file: OwnedFd,
    service: Service,
    /// Connection and file, and the journal if there is one.
    kept: Kept,
    /// Held while a device is moved. The connection is not kept meanwhile, and a move that ends puts it back.
    moving: Mutex<()>,
}

impl FuseFile {
    /// Serves a blob by `reads` until this and every loop device on it are gone. What a predecessor has had kept is gone on with.
    pub(crate) fn open(reads: impl Fn() -> (BlobReads, Service), keeping: &Keeping, name: &str) -> io::Result<Self> {
        for name in KEPT_AS.map(|kind| format!("{kind}{name}")) {
            let Some(left) = keeping.take(&name) else { continue };
            match Self::resume(left, reads(), keeping, &name) {
                Err(error) => tracing::warn!(name, %error, "what was kept of a blob is of no use"),
                file => return file,
            }
            keeping.discard(&name);
        }
        Self::begin(reads(), keeping, name)
    }

    fn begin((reads, service): (BlobReads, Service), keeping: &Keeping, name: &str) -> io::Result<Self> {
        let options = Options { source: "granary", subtype: None, for_all: false };
        let Started { mount, connection, journal } =
            fuse_session::start(BlobFilesystem::new(reads), &options, keeping)?;
        let file = apart::open(|| {
            let file = rustix::fs::openat(&mount, BLOB_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            // The loop driver asks for it when a device is bound. The answer is remembered.
            rustix::fs::fsync(&file)?;
            Ok(file)
        })?;
        let name = format!("{}{name}", KEPT_AS[usize::from(journal.is_some())]);
        let descriptors = [connection, file.try_clone()?].into_iter().chain(journal);
        let kept = keeping.keep(&name, descriptors.collect());
        Ok(Self { file, service, kept, moving: Mutex::default() })
    }

    fn resume(
        left: Vec<OwnedFd>,
        (reads, service): (BlobReads, Service),
        keeping: &Keeping,
        name: &str,
    ) -> io::Result<Self> {
        let ([connection, file] | [connection, file, _]) = left.as_slice() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let file = file.try_clone()?;
        fuse_session::resume(BlobFilesystem::new(reads), connection, left.get(2))?;
        Ok(Self { file, service, kept: keeping.keep(name, left), moving: Mutex::default() })
    }

    /// Whether `device` is bound to this file. Nobody is asked.
    pub(crate) fn is_below(&self, device: &LoopDevice) -> io::Result<bool> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(&self.file, "", flags, StatxFlags::INO)?;
        Ok(found.stx_dev_major == 0 && found.stx_dev_minor == device.backing_minor()?)
    }

    /// Moves `device` from this file to another one. The kernel waits for reads that are under way, which this process answers.
    pub(crate) fn move_away(&self, device: &LoopDevice, to: &File) -> io::Result<()> {
        // Versions share this file.
        let _alone = self.moving.lock();
        let moving = || apart::run(|| device.change_backing(to));
        // If this process dies in between, nobody shall hold what no successor can serve: it comes when this one has ended.
        self.kept.without(moving)
    }

    /// Leaves reads to a successor.
    pub(crate) fn leave(&self) {
        self.service.leave();
    }
}

impl AsFd for FuseFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[derive(Clone)]
struct BlobFilesystem(Arc<BlobReads>);

impl BlobFilesystem {
    fn new(reads: BlobReads) -> Self {
        Self(Arc::new(reads))
    }
}

impl Files for BlobFilesystem {
    fn read_file(&self, _: u64, offset: u64, len: u32, reply: impl Answer) {
        self.0.answer(offset, len as usize, reply);
    }
}

fn attributes(inode: INodeNo) -> FileAttr {
    let is_file = inode == FILE_INODE;
    FileAttr {
        ino: inode,
        size: if is_file { FILE_BYTES } else { 0 },
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_file { FileType::RegularFile } else { FileType::Directory },
        perm: if is_file { 0o400 } else { 0o500 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for BlobFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        fuse_session::negotiate(config);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == BLOB_FILE {
            reply.entry(&FOREVER, &attributes(FILE_INODE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // The loop devices' page cache is above and the blob's own below: a third copy in between helps nobody.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH);
    }

    /// Not there: the kernel takes it for done from now on.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
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
}
