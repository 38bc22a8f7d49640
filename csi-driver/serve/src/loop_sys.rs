//! The loop driver's calls, as `linux/loop.h` has them. The only unsafe code around loop devices.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CHANGE_FD: libc::Ioctl = 0x4C06;
const LOOP_SET_DIRECT_IO: libc::Ioctl = 0x4C08;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;

/// Writes are refused; `LOOP_CHANGE_FD` wants it.
pub(crate) const LO_FLAGS_READ_ONLY: u32 = 1;
/// The device is cleared when its last user is gone.
pub(crate) const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// The backing file is read past the page cache.
pub(crate) const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LoopInfo {
    /// Device of the backing file's filesystem, in the kernel's "huge" encoding.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) rdevice: u64,
    pub(crate) offset: u64,
    /// Length that the device shows, in bytes; 0 is the backing file's.
    pub(crate) size_limit: u64,
    pub(crate) number: u32,
    pub(crate) encrypt_type: u32,
    pub(crate) encrypt_key_size: u32,
    pub(crate) flags: u32,
    /// Free text that the kernel keeps.
    pub(crate) file_name: [u8; 64],
    pub(crate) crypt_name: [u8; 64],
    pub(crate) encrypt_key: [u8; 32],
    pub(crate) init: [u64; 2],
}

impl Default for LoopInfo {
    fn default() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

fn check(result: libc::c_int) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The number of a device that nobody uses; made if there is none. Another process may take it first.
pub(crate) fn free_number(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: the call takes no argument.
    check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) })
}

/// Binds `backing` to an unused device.
pub(crate) fn configure(device: impl AsFd, backing: impl AsFd, block_size: u32, info: LoopInfo) -> io::Result<()> {
    let fd = backing.as_fd().as_raw_fd() as u32;
    let config = LoopConfig { fd, block_size, info, reserved: [0; 8] };
    // SAFETY: the kernel reads a `struct loop_config`, which lives until the call returns.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
}

/// What a device is bound to; `ENXIO` if to nothing.
pub(crate) fn status(device: impl AsFd) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::default();
    // SAFETY: the kernel writes a `struct loop_info64`, for which any bytes are valid.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) })?;
    Ok(info)
}

/// Replaces the backing file of a read-only device by one of the same length, below whoever reads.
pub(crate) fn change_backing(device: impl AsFd, backing: impl AsFd) -> io::Result<()> {
    // SAFETY: the argument is a descriptor, open until the call returns.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CHANGE_FD, backing.as_fd().as_raw_fd()) }).map(drop)
}

/// Has the backing file read past the page cache.
pub(crate) fn set_direct_io(device: impl AsFd) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_SET_DIRECT_IO, 1 as libc::c_ulong) }).map(drop)
}

/// Unbinds a device, at once or when its last user is gone.
pub(crate) fn clear(device: impl AsFd) -> io::Result<()> {
    // SAFETY: the kernel ignores the argument.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CLR_FD, 0) }).map(drop)
}
