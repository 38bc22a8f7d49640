//! A version's FUSE filesystem, from the mount to its end.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use granary_image::ImageReader;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::MoveMountFlags;

use super::fuse::VersionFilesystem;
use super::source::SUBTYPE;
use super::tree::Tree;
use crate::blob_reads::{BlobReads, Service};
use crate::erofs::READ_AHEAD_KIB;
use crate::fuse_session::{self, Options, Started};
use crate::keeping::{Keeping, Kept};

/// What filesystems are kept as, without a journal and with one, before the version's key and the minor number. A release that
/// answers the kernel otherwise, or has another journal, has another number: it must not go on with these.
const KEPT_AS: [&str; 2] = ["version-1", "version-journal-1"];

/// A filesystem that is mounted. When this is dropped, its reads fail; its names and attributes are there until nobody has it
/// any more.
pub(crate) struct FilesystemMount {
    /// Minor number of its device.
    minor: u32,
    service: Service,
    /// The connection, and the journal if there is one.
    _kept: Kept,
}

/// What a filesystem serves: a version's image, which must have been validated, and reads of its blob.
pub(crate) struct Content {
    pub(crate) key: String,
    pub(crate) image: ImageReader,
    pub(crate) reads: (BlobReads, Service),
}

impl FilesystemMount {
    /// Shows `content` at `target` to every user.
    pub(crate) fn begin(content: Content, source: &str, target: &Path, keeping: &Keeping) -> io::Result<Self> {
        let Content { key, image, reads: (reads, service) } = content;
        let options = Options { source, subtype: Some(SUBTYPE), for_all: true };
        let filesystem = VersionFilesystem { tree: Arc::new(Tree::new(image)), reads: Arc::new(reads) };
        let Started { mount, connection, journal } = fuse_session::start(filesystem, &options, keeping)?;
        let minor = minor(&mount)?;
        read_ahead(minor);
        let name = kept_as(KEPT_AS[usize::from(journal.is_some())], &key, minor);
        let kept = keeping.keep(&name, std::iter::once(connection).chain(journal).collect());
        rustix::mount::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Self { minor, service, _kept: kept })
    }

    /// Goes on with what a predecessor has had kept of the filesystem of number `minor`. `None` if nothing was kept, or
    /// nothing of use.
    pub(crate) fn resume(content: Content, minor: u32, keeping: &Keeping) -> Option<Self> {
        let Content { key, image, reads: (reads, service) } = content;
        let names = KEPT_AS.map(|kind| kept_as(kind, &key, minor));
        let (name, left) = names.into_iter().find_map(|name| keeping.take(&name).map(|left| (name, left)))?;
        let filesystem = VersionFilesystem { tree: Arc::new(Tree::new(image)), reads: Arc::new(reads) };
        let resumed = match left.as_slice() {
            [connection] | [connection, _] => fuse_session::resume(filesystem, connection, left.get(1)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        match resumed {
            Ok(()) => Some(Self { minor, service, _kept: keeping.keep(&name, left) }),
            Err(error) => {
                tracing::warn!(name, %error, "what was kept of a filesystem is of no use");
                keeping.discard(&name);
                None
            }
        }
    }

    /// Whether a filesystem of this number is it.
    pub(crate) fn is(&self, minor: u32) -> bool {
        self.minor == minor
    }

    /// Leaves reads to a successor.
    pub(crate) fn leave(&self) {
        self.service.leave();
    }
}

fn kept_as(kind: &str, key: &str, minor: u32) -> String {
    format!("{kind}/{key}/{minor}")
}

/// Nobody is asked: this process would have to answer.
fn minor(mount: impl AsFd) -> io::Result<u32> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(mount, "", flags, StatxFlags::INO)?.stx_dev_minor)
}

/// Has the kernel read ahead as far as in EROFS. It tunes and nothing more, so a kernel that refuses is asked no further.
fn read_ahead(minor: u32) {
    let path = format!("/sys/class/bdi/0:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%path, %error, "cannot tune a FUSE filesystem");
    }
}
