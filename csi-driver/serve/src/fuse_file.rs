//! One FUSE filesystem with one file, a blob, for loop devices to be bound to.
//!
//! The mount is never attached to a directory: loop devices need an open file and nothing else, and what is nowhere to be
//! seen cannot be read by others, nor be left behind. It lives as long as somebody has the file open, this process or a
//! loop device.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::UNIX_EPOCH;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use crate::blob_reads::{BlobReads, Service};
use crate::fuse_session::{self, FOREVER, Options, Started};
use crate::keeping::{Keeping, Kept};
use crate::loops::{BLOB_FILE, LoopDevice};
use crate::{apart, takeover};

/// Length of every blob's file, in bytes: more than any blob has, so that a growing blob keeps its file. Loop devices are
/// limited to what a version has, and `LOOP_CHANGE_FD` wants files of one length.
pub(crate) const FILE_BYTES: u64 = 16 << 40;

/// What files are kept as, before the name of the blob. A release that answers the kernel otherwise has another number: it must
/// not go on with these.
const KEPT_AS: &str = "blob-1/";

const FILE_INODE: INodeNo = INodeNo(2);

/// The file of one blob. When this is dropped, reads fail.
pub(crate) struct FuseFile {
    file: OwnedFd,
    service: Service,
    /// Connection and file, unless the kernel has no way to ask a successor again.
    kept: Option<Kept>,
}

impl FuseFile {
    /// Serves a blob by `reads` until this and every loop device on it are gone. What a predecessor has had kept is gone on with.
    pub(crate) fn open(reads: impl Fn() -> (BlobReads, Service), keeping: &Keeping, name: &str) -> io::Result<Self> {
        let name = format!("{KEPT_AS}{name}");
        if let Some(left) = keeping.take(&name) {
            match Self::resume(left, reads(), keeping, &name) {
                Err(error) => tracing::warn!(name, %error, "what was kept of a blob is of no use"),
                file => return file,
            }
            keeping.discard(&name);
        }
        Self::begin(reads(), keeping, &name)
    }

    fn begin((reads, service): (BlobReads, Service), keeping: &Keeping, name: &str) -> io::Result<Self> {
        let options = Options { source: "granary", subtype: None, for_all: false };
        let Started { mount, connection } = fuse_session::start(BlobFilesystem(reads), &options)?;
        let file = apart::open(|| {
            let file = rustix::fs::openat(&mount, BLOB_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            // The loop driver asks for it when a device is bound. The answer is remembered.
            rustix::fs::fsync(&file)?;
            Ok(file)
        })?;
        let kept = match takeover::ask_again(&connection) {
            Ok(()) => Some(keeping.keep(name, vec![connection, file.try_clone()?])),
            Err(error) => {
                tracing::debug!(%error, "this kernel cannot ask a successor again");
                None
            }
        };
        Ok(Self { file, service, kept })
    }

    fn resume(
        left: Vec<OwnedFd>,
        (reads, service): (BlobReads, Service),
        keeping: &Keeping,
        name: &str,
    ) -> io::Result<Self> {
        let [connection, file]: [OwnedFd; 2] = left.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        let copy = file.try_clone()?;
        fuse_session::resume(BlobFilesystem(reads), &connection)?;
        let kept = Some(keeping.keep(name, vec![connection, copy]));
        Ok(Self { file, service, kept })
    }

    /// Whether `device` is bound to this file. Nobody is asked.
    pub(crate) fn is_below(&self, device: &LoopDevice) -> io::Result<bool> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(&self.file, "", flags, StatxFlags::INO)?;
        Ok(found.stx_dev_major == 0 && found.stx_dev_minor == device.backing_minor()?)
    }

    /// Moves `device` from this file to another one. The kernel waits for reads that are under way, which this process answers.
    pub(crate) fn move_away(&self, device: &LoopDevice, to: &File) -> io::Result<()> {
        let moving = || apart::run(|| device.change_backing(to));
        // If this process dies in between, nobody shall hold what no successor can serve: it comes when this one has ended.
        match &self.kept {
            Some(kept) => kept.without(moving),
            None => moving(),
        }
    }

    /// Leaves reads to a successor.
    pub(crate) fn leave(&self) {
        if self.kept.is_some() {
            self.service.leave();
        }
    }
}

impl AsFd for FuseFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

struct BlobFilesystem(BlobReads);

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
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.answer(offset, size as usize, reply);
    }
}
