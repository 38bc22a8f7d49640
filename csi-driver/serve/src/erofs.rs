//! Mounts: EROFS on two loop devices or on two files, its bind mounts, and their end.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

use crate::loops::LoopDevice;
use crate::superblocks;

/// How far the kernel reads ahead of a sequential reader, in KiB: eight of the largest reads at once, so that a source's
/// latency is paid for once in eight.
pub(crate) const READ_AHEAD_KIB: u32 = 8192;
/// Largest request of a blob's device, in KiB: one FUSE read.
const REQUEST_KIB: u32 = 1024;

/// Mounts the image at `target`. The same devices give the same superblock. The image must have been validated.
pub(crate) fn mount(image: &LoopDevice, blob: &LoopDevice, target: &Path) -> io::Result<()> {
    blob.tune("max_sectors_kb", REQUEST_KIB);
    // EROFS reads ahead as the image's device says, also in files.
    for device in [image, blob] {
        device.tune("read_ahead_kb", READ_AHEAD_KIB);
    }
    let options = CString::new(format!("device={}", blob.path().display()))?;
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    Ok(rustix::mount::mount(image.path(), target, "erofs", flags, Some(options.as_c_str()))?)
}

/// Mounts the image at `target`, without devices, the blob's bytes being read from `data` past its page cache. Each call makes
/// a superblock; gives the names that it can have in [`superblocks`]. The image must have been validated, and its parts held.
pub(crate) fn mount_files(image: &Path, data: &Path, target: &Path) -> io::Result<BTreeSet<String>> {
    let (mount, names) = mount_detached(image, data)?;
    rustix::mount::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(names)
}

/// As [`mount_files`], at no place: it is gone when it is closed.
pub(crate) fn mount_detached(image: &Path, data: &Path) -> io::Result<(OwnedFd, BTreeSet<String>)> {
    /// One at a time, so that there are few names of others among the new ones.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let before = superblocks::names()?;
    // Not with mount(2): its options end at a comma, which a path can have.
    let fs = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "source", image)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "device", data)?;
    rustix::mount::fsconfig_set_flag(fs.as_fd(), "directio")?;
    rustix::mount::fsconfig_set_flag(fs.as_fd(), "ro")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let names: BTreeSet<_> = superblocks::names()?.difference(&before).cloned().collect();
    if names.is_empty() {
        // Nobody could tell when it is gone.
        return Err(io::Error::other("the kernel does not show its superblocks"));
    }
    Ok((mount, names))
}

/// Shows what is mounted at `source` at `target` too. Bind mounts inherit read-only, nodev and nosuid.
pub(crate) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(source, target)?)
}

/// Takes away the mount on top at `target`; if somebody is in it, as soon as they have left. Nothing there is fine.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?),
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}
