//! What the kernel has of one state directory: the truth from which everything else is rebuilt.

use std::io;
use std::path::Path;

use crate::file_image;
use crate::filesystem::source;
use crate::loops::{self, Backing, LOOP_MAJOR, Label, LoopDevice, Role};
use crate::mountinfo::{self, Mount};

/// The major number of filesystems without a device.
const ANONYMOUS_MAJOR: u32 = 0;

/// The loop devices and mounts at one moment.
pub(crate) struct Survey {
    instance: String,
    mounts: Vec<Mount>,
    devices: Vec<Device>,
}

struct Device {
    label: Label,
    device: LoopDevice,
    backing: Backing,
    minor: u32,
}

/// How a version is mounted that the kernel reads by itself.
pub(crate) enum Mounted<'a> {
    /// On two loop devices.
    Loops(Pair<'a>),
    /// On its files; somewhere it is to be seen here.
    Files(&'a Path),
}

/// The two loop devices of a mounted version.
pub(crate) struct Pair<'a> {
    pub(crate) image: &'a LoopDevice,
    pub(crate) blob: &'a LoopDevice,
    /// Whether the blob's device is bound to the native file.
    pub(crate) is_native: bool,
}

impl Survey {
    /// Looks at loop devices first: one that is mounted in between is found by its device, the reverse would be taken for
    /// foreign.
    pub(crate) fn take(instance: &str) -> io::Result<Self> {
        let mut devices = Vec::new();
        for (label, device, backing) in loops::find(instance)? {
            let minor = device.minor()?;
            devices.push(Device { label, device, backing, minor });
        }
        Ok(Self { instance: instance.to_owned(), mounts: mountinfo::read()?, devices })
    }

    /// What is on top at `target`.
    pub(crate) fn at(&self, target: &Path) -> Option<&Mount> {
        mountinfo::at(&self.mounts, target)
    }

    /// The version on top at `target`, by its key.
    pub(crate) fn version_at(&self, target: &Path) -> Option<&str> {
        self.key_of(self.at(target)?)
    }

    /// The version that a mount is of.
    fn key_of<'a>(&'a self, mount: &'a Mount) -> Option<&'a str> {
        if is_erofs_on_loop(mount) {
            let is_it = |d: &&Device| d.label.role == Role::Image && d.minor == mount.minor;
            return self.devices.iter().find(is_it).map(|image| image.label.version.as_str());
        }
        let on_files = self.on_files(mount).map(|(key, _)| key);
        on_files.or_else(|| source::parse(mount, &self.instance))
    }

    /// The version and the blob of a mount that has no device.
    fn on_files<'a>(&self, mount: &'a Mount) -> Option<(&'a str, &'a str)> {
        let can_be = mount.filesystem == "erofs" && mount.major == ANONYMOUS_MAJOR;
        file_image::parse(Path::new(&mount.source), &self.instance).filter(|_| can_be)
    }

    /// How version `key` is mounted, if it is anywhere, but as a FUSE filesystem.
    pub(crate) fn mounted(&self, key: &str) -> Option<Mounted<'_>> {
        let pair = self.of(key).filter(|d| d.label.role == Role::Image && self.is_mounted(d.minor)).find_map(|image| {
            let role = Role::BlobFor(image.device.number());
            let blob = self.of(key).find(|d| d.label.role == role)?;
            Some(Pair { image: &image.device, blob: &blob.device, is_native: blob.backing != Backing::Plain })
        });
        let is_it = |mount: &&Mount| self.on_files(mount).is_some_and(|(of, _)| of == key);
        let on_files = || self.mounts.iter().find(is_it).map(|mount| Mounted::Files(&mount.mount_point));
        pair.map(Mounted::Loops).or_else(on_files)
    }

    /// The mounts of version `key` that are FUSE filesystems.
    pub(crate) fn filesystems(&self, key: &str) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(move |mount| source::parse(mount, &self.instance) == Some(key))
    }

    /// Every device of version `key`, mounted or not.
    pub(crate) fn devices(&self, key: &str) -> impl Iterator<Item = &LoopDevice> {
        self.of(key).map(|device| &device.device)
    }

    /// Keys of all versions that have a device or a mount.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let mounted = self.mounts.iter().filter(|mount| mount.major == ANONYMOUS_MAJOR).filter_map(|m| self.key_of(m));
        self.devices.iter().map(|device| device.label.version.as_str()).chain(mounted)
    }

    /// Where version `key` is mounted.
    pub(crate) fn mount_points(&self, key: &str) -> impl Iterator<Item = &Path> {
        let of_it = move |mount: &&Mount| self.key_of(mount) == Some(key);
        self.mounts.iter().filter(of_it).map(|mount| mount.mount_point.as_path())
    }

    /// Versions whose blob the kernel reads from the native file, by their keys, each with the blob's id.
    pub(crate) fn native(&self) -> impl Iterator<Item = (&str, &str)> {
        let devices = self.devices.iter().filter_map(|device| match &device.backing {
            Backing::Native(blob_id) => Some((device.label.version.as_str(), blob_id.as_str())),
            Backing::Plain => None,
        });
        devices.chain(self.mounts.iter().filter_map(|mount| self.on_files(mount)))
    }

    fn of(&self, key: &str) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(move |device| device.label.version == key)
    }

    fn is_mounted(&self, minor: u32) -> bool {
        self.mounts.iter().any(|mount| is_erofs_on_loop(mount) && mount.minor == minor)
    }
}

/// Whether a mount can be one of ours.
pub(crate) fn is_erofs_on_loop(mount: &Mount) -> bool {
    mount.filesystem == "erofs" && mount.major == LOOP_MAJOR
}
