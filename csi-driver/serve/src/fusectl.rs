//! The kernel's control of FUSE connections.

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Gives up the connection of this number, which is the minor number of its filesystem's device: whoever waits for an answer
/// gets an error. One that is not there is given up already.
///
/// The control filesystem is mounted at no place: a container does not have it where the host does.
pub(crate) fn abort(number: u32) -> io::Result<()> {
    let fs = rustix::mount::fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let mount = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let path = format!("{number}/abort");
    match rustix::fs::openat(&mount, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        control => {
            rustix::io::write(&control?, b"1")?;
            Ok(())
        }
    }
}
