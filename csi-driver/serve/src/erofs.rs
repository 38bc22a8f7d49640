//! Mounts: EROFS on two loop devices, its bind mounts, and their end.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::loops::LoopDevice;

/// How far the kernel reads ahead of a sequential reader, in KiB: eight of the largest reads at once, so that a source's
/// latency is paid for once in eight.
const READ_AHEAD_KIB: u32 = 8192;
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
