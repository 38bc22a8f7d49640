//! Loop devices: made, found again by their label, moved to another file, cleared.
//!
//! A device clears itself when its last user (the EROFS mount, or the descriptor of whoever made it) is gone, so a crash
//! between making and mounting leaks nothing. Its label, kept by the kernel, says which version it is for: paths of backing
//! files mean nothing in another mount namespace.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::loop_sys::{self, LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LO_FLAGS_READ_ONLY, LoopInfo};

/// The block device major of loop devices.
pub(crate) const LOOP_MAJOR: u32 = 7;

const PREFIX: &str = "granary";
/// Tries to win a free device against other processes.
const TRIES: u32 = 64;

/// What a loop device is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Image,
    /// The blob, for the mount of the image on the loop device of this number.
    BlobFor(u32),
}

/// Whose a loop device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// The state directory's id.
    pub(crate) instance: String,
    /// The version's key.
    pub(crate) version: String,
    pub(crate) role: Role,
}

impl Label {
    fn to_bytes(&self) -> [u8; 64] {
        let role = match self.role {
            Role::Image => "i".to_owned(),
            Role::BlobFor(image) => format!("b{image}"),
        };
        let text = format!("{PREFIX}/{}/{}/{role}", self.instance, self.version);
        let mut bytes = [0; 64];
        // The kernel ends the text with a zero byte.
        let len = text.len().min(63);
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        let mut parts = text.split('/');
        let (prefix, instance, version, role) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let role = match role {
            "i" => Role::Image,
            role => Role::BlobFor(role.strip_prefix('b')?.parse().ok()?),
        };
        (prefix == PREFIX && parts.next().is_none()).then(|| Self {
            instance: instance.to_owned(),
            version: version.to_owned(),
            role,
        })
    }
}

/// An open loop device.
pub(crate) struct LoopDevice {
    file: File,
    number: u32,
}

impl LoopDevice {
    /// Binds a free device to the first `bytes` bytes of `backing`, read-only and past the page cache.
    pub(crate) fn bind(backing: impl AsFd, bytes: u64, block_size: u32, label: &Label) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        let info = LoopInfo {
            size_limit: bytes,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
            file_name: label.to_bytes(),
            ..LoopInfo::default()
        };
        let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
        for _ in 0..TRIES {
            let number = loop_sys::free_number(&control)?;
            let bound = Self::open(number).and_then(|device| {
                loop_sys::configure(&device.file, &backing, block_size, info)?;
                Ok(device)
            });
            match bound {
                // Another process took it between the two calls.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Opens device `number` if it is the one of this label; it may be gone, or another's by now.
    pub(crate) fn open_labelled(number: u32, label: &Label) -> io::Result<Option<Self>> {
        let device = match Self::open(number) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)) => return Ok(None),
            device => device?,
        };
        match loop_sys::status(&device.file) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            info => Ok((Label::parse(&info?.file_name).as_ref() == Some(label)).then_some(device)),
        }
    }

    /// Opens device `number`.
    pub(crate) fn open(number: u32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).open(format!("/dev/loop{number}"))?;
        Ok(Self { file, number })
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Minor number of the device, as mountinfo has it.
    pub(crate) fn minor(&self) -> io::Result<u32> {
        Ok(rustix::fs::minor(rustix::fs::fstat(&self.file)?.st_rdev))
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/dev/loop{}", self.number).into()
    }

    /// Moves the device to another file, which must be as long as the present one or reach the limit.
    pub(crate) fn change_backing(&self, backing: impl AsFd) -> io::Result<()> {
        loop_sys::change_backing(&self.file, backing)
    }

    /// Sees to it that the backing file is read past the page cache: the driver may have given that up for another file.
    pub(crate) fn keep_direct(&self) -> io::Result<()> {
        if loop_sys::status(&self.file)?.flags & LO_FLAGS_DIRECT_IO != 0 {
            return Ok(());
        }
        loop_sys::set_direct_io(&self.file)
    }

    /// Unbinds the device, now or with its last user. One that is unbound already is fine.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match loop_sys::clear(&self.file) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            result => result,
        }
    }

    /// Minor number of the anonymous device that the backing file's filesystem has: the number of its FUSE connection.
    pub(crate) fn backing_minor(&self) -> io::Result<u32> {
        Ok(huge_minor(loop_sys::status(&self.file)?.device))
    }

    /// Sets an attribute of the device's queue. It tunes and nothing more, so a kernel that refuses is asked no further.
    pub(crate) fn tune(&self, attribute: &str, value: u32) {
        let path = format!("/sys/block/loop{}/queue/{attribute}", self.number);
        if let Err(error) = std::fs::write(&path, value.to_string()) {
            tracing::debug!(%path, value, %error, "cannot tune a loop device");
        }
    }
}

/// The minor number in the kernel's "huge" encoding: bits 0-7 and 20-31.
fn huge_minor(device: u64) -> u32 {
    let device = device as u32;
    device & 0xff | device >> 12 & !0xff
}

/// What a device of ours can be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// An image, or the FUSE file of a blob.
    Plain,
    /// The data file of the blob of this id, in a cache.
    Native(String),
}

/// All bound devices that carry a label of `instance`, and what they are bound to.
pub(crate) fn find(instance: &str) -> io::Result<Vec<(Label, LoopDevice, Backing)>> {
    Ok(find_all()?.into_iter().filter(|(label, ..)| label.instance == instance).collect())
}

/// The same of whatever instance.
pub(crate) fn find_all() -> io::Result<Vec<(Label, LoopDevice, Backing)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok()) else { continue };
        // Asking a device for its status asks its backing file's filesystem, so only those that can be ours are asked.
        let path = std::fs::read(entry.path().join("loop/backing_file"));
        let Some(backing) = path.ok().and_then(|path| Backing::parse(&path)) else { continue };
        let Ok(device) = LoopDevice::open(number) else { continue };
        // It may have gone in between.
        let Ok(info) = loop_sys::status(&device.file) else { continue };
        if let Some(label) = Label::parse(&info.file_name) {
            found.push((label, device, backing));
        }
    }
    Ok(found)
}

/// Name of every file that a device of ours is bound to.
pub(crate) const BLOB_FILE: &str = "granary.blob";
/// Name of every image file that a device of ours is bound to.
pub(crate) const IMAGE_FILE: &str = "granary.erofs";

impl Backing {
    /// From a path as sysfs has it, which may be one of another mount namespace.
    fn parse(path: &[u8]) -> Option<Self> {
        let path = String::from_utf8_lossy(path);
        let path = path.trim_end().trim_end_matches(" (deleted)");
        let mut parts = path.rsplit('/');
        match (parts.next()?, parts.next(), parts.next()) {
            (BLOB_FILE | IMAGE_FILE, ..) => Some(Self::Plain),
            ("data", Some(id), Some("blobs")) => Some(Self::Native(id.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_survive_the_kernel() {
        for role in [Role::Image, Role::BlobFor(999_999)] {
            let label = Label { instance: "0123456789ab".into(), version: "f".repeat(32), role };
            assert_eq!(Label::parse(&label.to_bytes()), Some(label));
        }
        assert_eq!(Label::parse(b"/var/lib/disk.img\0\0"), None);
        assert_eq!(Label::parse(b"granary/a/b/x"), None);
        assert_eq!(Label::parse(b"granary/a/b/i/j"), None);
        assert_eq!(Label::parse(&[0xff; 64]), None);
    }

    #[test]
    fn minors_are_decoded() {
        assert_eq!(huge_minor(0x0000_0031), 0x31);
        assert_eq!(huge_minor(0x0010_0131), 0x131);
        assert_eq!(huge_minor(0x0fff_00ff), 0xffff);
    }

    #[test]
    fn only_own_backing_files_are_asked() {
        let parse = |path: &str| Backing::parse(path.as_bytes());
        assert_eq!(parse("/granary.blob\n"), Some(Backing::Plain));
        assert_eq!(parse("/var/lib/granary/versions/ab/granary.erofs\n"), Some(Backing::Plain));
        assert_eq!(parse("/versions/ab/granary.erofs (deleted)\n"), Some(Backing::Plain));
        assert_eq!(parse("/var/lib/cache/gold/blobs/id-1/data\n"), Some(Backing::Native("id-1".into())));
        assert_eq!(parse("/blobs/id-1/data (deleted)\n"), Some(Backing::Native("id-1".into())));
        for other in ["/var/lib/other.img\n", "/srv/granary.blob/disk.img\n", "/srv/x/data\n", "/data", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
