//! What the kernel has of one state directory: the truth from which everything else is rebuilt.

use std::io;
use std::path::Path;

use crate::loops::{self, LOOP_MAJOR, Label, LoopDevice, Role};
use crate::mountinfo::{self, Mount};

/// The loop devices and mounts at one moment.
pub(crate) struct Survey {
    mounts: Vec<Mount>,
    devices: Vec<Device>,
}

struct Device {
    label: Label,
    device: LoopDevice,
    minor: u32,
}

/// The two loop devices of a mounted version.
pub(crate) struct Pair<'a> {
    pub(crate) image: &'a LoopDevice,
    pub(crate) blob: &'a LoopDevice,
}

impl Survey {
    /// Looks at loop devices first: one that is mounted in between is found by its device, the reverse would be taken for
    /// foreign.
    pub(crate) fn take(instance: &str) -> io::Result<Self> {
        let mut devices = Vec::new();
        for (label, device) in loops::find(instance)? {
            let minor = device.minor()?;
            devices.push(Device { label, device, minor });
        }
        Ok(Self { mounts: mountinfo::read()?, devices })
    }

    /// What is on top at `target`.
    pub(crate) fn at(&self, target: &Path) -> Option<&Mount> {
        mountinfo::at(&self.mounts, target)
    }

    /// The version on top at `target`, by its key.
    pub(crate) fn version_at(&self, target: &Path) -> Option<&str> {
        let mount = self.at(target).filter(|mount| is_erofs_on_loop(mount))?;
        let image = self.devices.iter().find(|d| d.label.role == Role::Image && d.minor == mount.minor)?;
        Some(&image.label.version)
    }

    /// The devices of version `key` that are mounted somewhere.
    pub(crate) fn mounted(&self, key: &str) -> Option<Pair<'_>> {
        self.of(key).filter(|d| d.label.role == Role::Image && self.is_mounted(d.minor)).find_map(|image| {
            let role = Role::BlobFor(image.device.number());
            let blob = self.of(key).find(|d| d.label.role == role)?;
            Some(Pair { image: &image.device, blob: &blob.device })
        })
    }

    /// Every device of version `key`, mounted or not.
    pub(crate) fn devices(&self, key: &str) -> impl Iterator<Item = &LoopDevice> {
        self.of(key).map(|device| &device.device)
    }

    /// Keys of all versions that have a device.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().map(|device| device.label.version.as_str())
    }

    /// Where version `key` is mounted.
    pub(crate) fn mount_points(&self, key: &str) -> impl Iterator<Item = &Path> {
        let images: Vec<u32> = self.of(key).filter(|d| d.label.role == Role::Image).map(|d| d.minor).collect();
        let of_it = move |mount: &&Mount| is_erofs_on_loop(mount) && images.contains(&mount.minor);
        self.mounts.iter().filter(of_it).map(|mount| mount.mount_point.as_path())
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
