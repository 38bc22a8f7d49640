//! One FUSE filesystem with one file, a blob, for loop devices to be bound to.
//!
//! The mount is never attached to a directory: loop devices need an open file and nothing else, and what is nowhere to be
//! seen cannot be read by others, nor be left behind. It lives as long as somebody has the file open, this process or a
//! loop device.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, Request, Session,
    SessionACL,
};
use granary_blob::Blob;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::buffers::{Buffer, Buffers};
use crate::loops::BLOB_FILE;

/// Length of every blob's file, in bytes: more than any blob has, so that a growing blob keeps its file. Loop devices are
/// limited to what a version has, and `LOOP_CHANGE_FD` wants files of one length.
pub(crate) const FILE_BYTES: u64 = 16 << 40;
/// Largest read that the kernel asks for, in bytes.
pub(crate) const MAX_READ: u32 = 1 << 20;
/// Reads that the kernel has under way at once; with the longest read it bounds the memory of a blob's readers.
const MAX_READS: u16 = 32;
/// Threads that take requests and read what is cached: as many reads of the disk can be under way.
const THREADS: usize = 4;
/// The kernel asks no attributes again for as long: a dead server's file must still tell its length to the loop driver when
/// the device is moved to the next server's.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const FILE_INODE: INodeNo = INodeNo(2);

/// The file of one blob.
pub(crate) struct FuseFile {
    file: File,
    closed: watch::Sender<bool>,
}

impl FuseFile {
    /// Serves `blob` until this and every loop device on it are gone.
    pub(crate) fn open(blob: Arc<Blob>, buffers: Arc<Buffers>, runtime: Handle) -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let mount = mount_detached(device.as_fd())?;
        let (closed, closed_rx) = watch::channel(false);
        let filesystem = BlobFilesystem { blob, buffers, runtime, closed: closed_rx };
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.acl = SessionACL::All;
        let session = Session::from_fd(filesystem, OwnedFd::from(device), SessionACL::All, config)?;
        std::thread::Builder::new().name("granary-fuse".into()).spawn(move || {
            if let Err(error) = session.run() {
                tracing::error!(%error, "a blob's FUSE session ended early");
            }
        })?;
        let file = rustix::fs::openat(&mount, BLOB_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { file: file.into(), closed })
    }
}

impl Drop for FuseFile {
    /// Fails reads that wait for a source, and all to come: nobody shall be held up by a blob that is served no more.
    fn drop(&mut self) {
        self.closed.send_replace(true);
    }
}

impl AsFd for FuseFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Mounts the filesystem behind `device` at no place.
fn mount_detached(device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // The kernel takes the descriptor's number as a text.
    for (key, value) in [
        ("source", "granary".to_owned()),
        ("fd", device.as_raw_fd().to_string()),
        ("rootmode", "40000".to_owned()),
        ("user_id", "0".to_owned()),
        ("group_id", "0".to_owned()),
        ("max_read", MAX_READ.to_string()),
    ] {
        rustix::mount::fsconfig_set_string(fs.as_fd(), key, value)?;
    }
    rustix::mount::fsconfig_set_flag(fs.as_fd(), "ro")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

struct BlobFilesystem {
    blob: Arc<Blob>,
    buffers: Arc<Buffers>,
    runtime: Handle,
    closed: watch::Receiver<bool>,
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
        // Without it the loop driver's reads come one after the other. It has been there since Linux 3.13.
        if config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).is_err() {
            tracing::warn!("this kernel's FUSE has no asynchronous direct reads: cold reads will be slow");
        }
        // Both setters take the nearest value that the kernel allows.
        let _ = config.set_max_background(MAX_READS);
        let _ = config.set_max_write(MAX_READ);
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

    /// The loop driver asks for it when a device is bound.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    /// Answers in full or with `EIO`: the kernel would take a short answer for the end of the file and fill up with zeros.
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
        let buf = self.buffers.take(size as usize).filter(|_| !*self.closed.borrow());
        let Some(mut buf) = buf else { return reply.error(Errno::EIO) };
        match self.blob.read_cached(offset, &mut buf) {
            Ok(true) => reply.data(&buf),
            Ok(false) => self.read_later(offset, buf, reply),
            Err(error) => fail(offset, size as usize, &error, reply),
        }
    }
}

impl BlobFilesystem {
    fn read_later(&self, offset: u64, mut buf: Buffer, reply: ReplyData) {
        let (blob, mut closed) = (self.blob.clone(), self.closed.clone());
        self.runtime.spawn(async move {
            let result = tokio::select! {
                result = blob.read(offset, &mut buf) => result,
                // An error means that the sender is gone, and with it the file.
                _ = closed.wait_for(|closed| *closed) => return reply.error(Errno::EIO),
            };
            match result {
                Ok(()) => reply.data(&buf),
                Err(error) => fail(offset, buf.len(), &error, reply),
            }
        });
    }
}

fn fail(offset: u64, len: usize, error: &granary_blob::ReadError, reply: ReplyData) {
    /// Second, since the first failure, of the last warning: a reader that tries again and again must not fill the log.
    static WARNED: AtomicU64 = AtomicU64::new(u64::MAX);
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let now = FIRST.elapsed().as_secs();
    if WARNED.swap(now, Ordering::Relaxed) == now {
        tracing::debug!(offset, len, reason = error.reason(), %error, "a read of a blob failed");
    } else {
        tracing::warn!(offset, len, reason = error.reason(), %error, "a read of a blob failed");
    }
    reply.error(Errno::EIO);
}
