//! A version that is mounted at its private place, and what its blob's bytes come from.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use granary_blob::{PartsHold, Preload};
use granary_image::PartRanges;
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;

use crate::filesystem::FilesystemMount;
use crate::loops::{Label, LoopDevice};
use crate::served::ServedBlob;
use crate::switch::Follower;
use crate::{ServeError, VersionManifest};

/// How a version is mounted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MountLayout {
    /// On its image and the cache's file, without devices: it was complete when it was mounted, and stays in the cache for as
    /// long.
    EROFSFile,
    /// On loop devices, the blob's over the cache's file: nobody is asked for what is read.
    EROFSLoopNative,
    /// On loop devices, the blob's over a FUSE file, which fills what is absent.
    EROFSLoopFUSE,
    /// As a FUSE filesystem, which reads the image itself and fills what is absent.
    FUSE,
}

impl MountLayout {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EROFSFile, Self::EROFSLoopNative, Self::EROFSLoopFUSE, Self::FUSE];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EROFSFile => "EROFSFile",
            Self::EROFSLoopNative => "EROFSLoopNative",
            Self::EROFSLoopFUSE => "EROFSLoopFUSE",
            Self::FUSE => "FUSE",
        }
    }
}

/// A version that is mounted at its private place and served.
pub(crate) struct LiveVersion {
    pub(crate) manifest: VersionManifest,
    pub(crate) blob: Arc<ServedBlob>,
    pub(crate) parts: Arc<PartRanges>,
    /// Locked while the blob's device is moved. Who has it waits for nothing but reads that are under way.
    backing: Mutex<Backing>,
    /// Reads of the blob's device, when it was last asked for them.
    reads: AtomicU64,
    follower: OnceLock<Follower>,
    preload: Mutex<Option<Preload>>,
}

/// The loop device of a version's blob. It is opened when it is needed: an open device would not clear itself.
#[derive(Clone, Debug)]
pub(crate) struct BlobDevice {
    pub(crate) number: u32,
    pub(crate) label: Label,
}

impl BlobDevice {
    fn open(&self) -> Result<Option<LoopDevice>, ServeError> {
        let path = format!("/dev/loop{}", self.number);
        LoopDevice::open_labelled(self.number, &self.label).map_err(ServeError::io("open", path))
    }

    /// Reads that the device has had so far, as the kernel counts them. What the page cache has is not read again.
    fn reads(&self) -> u64 {
        let counts = fs::read_to_string(format!("/sys/block/loop{}/stat", self.number)).unwrap_or_default();
        counts.split_ascii_whitespace().next().and_then(|reads| reads.parse().ok()).unwrap_or(0)
    }
}

/// What the kernel reads the blob from.
pub(crate) enum Backing {
    /// The native file, by the mount itself. There is no hold if the file is one that the cache has discarded.
    Files(Option<NativeHold>),
    /// The native file, by the loop device.
    Native {
        device: BlobDevice,
        hold: NativeHold,
        since: Instant,
    },
    Fuse(BlobDevice),
    /// Nothing: it asks this process for bytes of files.
    Filesystem(FilesystemMount),
    /// The version is being unmounted, or its device is not to be moved any more.
    Closed,
}

/// A hold for which the kernel reads a file: it stays to the pool's end unless it is given out.
pub(crate) struct NativeHold(Option<PartsHold>);

impl NativeHold {
    pub(crate) fn new(hold: PartsHold) -> Self {
        Self(Some(hold))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, PartsHold::bytes)
    }

    /// The hold, for who knows that nobody reads natively any more or sees to it.
    pub(crate) fn into_inner(mut self) -> Option<PartsHold> {
        self.0.take()
    }
}

impl Drop for NativeHold {
    fn drop(&mut self) {
        if let Some(hold) = self.0.take() {
            hold.keep();
        }
    }
}

/// A version that is not moved.
pub(crate) struct Still<'a> {
    blob: &'a ServedBlob,
    backing: MutexGuard<'a, Backing>,
}

impl Still<'_> {
    /// Leaves reads to a successor, who has what it needs from a keeper. Nothing is moved any more: that takes reads that are
    /// answered.
    pub(crate) fn leave(&mut self) {
        self.blob.file.leave();
        match &*self.backing {
            Backing::Filesystem(mount) => mount.leave(),
            Backing::Fuse(_) => *self.backing = Backing::Closed,
            Backing::Files(_) | Backing::Native { .. } | Backing::Closed => {}
        }
    }
}

impl LiveVersion {
    pub(crate) fn new(
        manifest: VersionManifest,
        blob: Arc<ServedBlob>,
        parts: Arc<PartRanges>,
        backing: Backing,
    ) -> Self {
        Self {
            manifest,
            blob,
            parts,
            backing: Mutex::new(backing),
            reads: AtomicU64::new(0),
            follower: OnceLock::new(),
            preload: Mutex::default(),
        }
    }

    /// Starts to move the blob's device when it can be, if there is one.
    pub(crate) fn follow(self: &Arc<Self>, runtime: &Handle) {
        if matches!(self.layout(), MountLayout::EROFSLoopNative | MountLayout::EROFSLoopFUSE) {
            self.follower.get_or_init(|| Follower::start(runtime, self));
        }
    }

    /// Fills everything in the background from now on, or no more. Gives whether that is a change.
    pub(crate) fn set_preload(&self, wanted: bool) -> bool {
        let mut preload = self.preload.lock();
        if preload.is_some() == wanted {
            return false;
        }
        *preload = wanted.then(|| self.blob.blob.preload(self.parts.clone()));
        true
    }

    pub(crate) fn is_on_fuse(&self) -> bool {
        matches!(&*self.backing.lock(), Backing::Fuse(_))
    }

    pub(crate) fn layout(&self) -> MountLayout {
        match &*self.backing.lock() {
            Backing::Files(_) => MountLayout::EROFSFile,
            Backing::Native { .. } => MountLayout::EROFSLoopNative,
            Backing::Fuse(_) | Backing::Closed => MountLayout::EROFSLoopFUSE,
            Backing::Filesystem(_) => MountLayout::FUSE,
        }
    }

    /// Whether it is the FUSE filesystem whose device has this minor number.
    pub(crate) fn is_filesystem(&self, minor: u32) -> bool {
        matches!(&*self.backing.lock(), Backing::Filesystem(mount) if mount.is(minor))
    }

    /// Bytes of the cache that stay as long as this is mounted.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        match &*self.backing.lock() {
            Backing::Files(Some(hold)) => hold.bytes(),
            _ => 0,
        }
    }

    /// Whether the blob's device was read since this was asked last, or since it was moved, and since when it is on the
    /// native file: the least of these is used least. `None` if it is not there, also while it is being moved.
    pub(crate) fn native_use(&self) -> Option<(bool, Instant)> {
        let backing = self.backing.try_lock()?;
        let Backing::Native { device, since, .. } = &*backing else { return None };
        let reads = device.reads();
        Some((self.reads.swap(reads, Relaxed) != reads, *since))
    }

    /// Moves the blob's device from the FUSE file to the native one, below whoever reads. Gives whether it did.
    pub(crate) fn go_native(&self, hold: PartsHold) -> Result<bool, ServeError> {
        let mut backing = self.backing.lock();
        let Backing::Fuse(device) = &*backing else { return Ok(false) };
        let device = device.clone();
        let Some(opened) = device.open()? else { return Ok(false) };
        let moved = self.blob.file.move_away(&opened, self.blob.blob.data_file());
        moved.map_err(ServeError::io("move to the native file", opened.path()))?;
        if let Err(error) = opened.keep_direct() {
            tracing::warn!(device = %opened.path().display(), %error, "what is read takes memory twice");
        }
        // From now on the pages of the mount are the only ones.
        hold.drop_pages();
        self.reads.store(device.reads(), Relaxed);
        *backing = Backing::Native { device, hold: NativeHold::new(hold), since: Instant::now() };
        Ok(true)
    }

    /// Waits until a move that is under way has ended; none begins as long as this is held.
    pub(crate) fn still(&self) -> Still<'_> {
        Still { blob: &self.blob, backing: self.backing.lock() }
    }

    /// The device could not be moved, and is not tried again.
    pub(crate) fn stay(&self) {
        *self.backing.lock() = Backing::Closed;
    }

    /// Moves the blob's device back to the FUSE file and drops the hold. Gives whether it did; never waits for another move.
    pub(crate) fn give_back(&self) -> Result<bool, ServeError> {
        let Some(mut backing) = self.backing.try_lock() else { return Ok(false) };
        let Backing::Native { device, .. } = &*backing else { return Ok(false) };
        let device = device.clone();
        self.to_fuse(&device)?;
        release(std::mem::replace(&mut *backing, Backing::Fuse(device)));
        Ok(true)
    }

    /// Moves the blob's device to the FUSE file if it is not there, and leaves it. A mount that has no device keeps its hold,
    /// which is given out.
    pub(crate) fn close(&self) -> Result<Option<PartsHold>, ServeError> {
        let mut backing = self.backing.lock();
        if let Backing::Native { device, .. } = &*backing {
            self.to_fuse(device)?;
        }
        match std::mem::replace(&mut *backing, Backing::Closed) {
            Backing::Files(hold) => Ok(hold.and_then(NativeHold::into_inner)),
            other => {
                release(other);
                Ok(None)
            }
        }
    }

    fn to_fuse(&self, device: &BlobDevice) -> Result<(), ServeError> {
        // One that is gone reads nothing.
        let Some(opened) = device.open()? else { return Ok(()) };
        let moved: io::Result<()> = opened.change_backing(&self.blob.file);
        moved.map_err(ServeError::io("move to the FUSE file", opened.path()))
    }
}

/// Drops the hold of a backing that is native no more.
fn release(backing: Backing) {
    if let Backing::Native { hold, .. } = backing {
        drop(hold.into_inner());
    }
}
