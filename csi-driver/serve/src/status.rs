//! What is mounted on this machine, whoever serves it: as the kernel has it, and without asking anybody who may be stuck.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::filesystem::source;
use crate::loops::{self, Backing, Label, LoopDevice, Role};
use crate::mountinfo::{self, Mount};
use crate::state_dir::{VersionDir, is_private, read_json};
use crate::{MountLayout, VersionManifest, file_image, pools, survey};

/// A place where a version is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStatus {
    /// The place.
    pub mount_point: PathBuf,
    /// How it is mounted now.
    pub layout: MountLayout,
    /// Namespace and name of the dataset; `None` where its record cannot be read, as from another mount namespace.
    pub dataset: Option<(String, String)>,
    /// Name of the version.
    pub version: Option<String>,
    /// How much of the version's blob is cached, in percent, rounded down. The blob may have parts of other versions too.
    pub cached_percent: Option<u8>,
}

/// All places where versions are mounted, in the order in which they were made. Needs the right to open loop devices; those that
/// cannot be opened are left out. The places that servers have for themselves are none.
pub fn survey_mounts() -> io::Result<Vec<MountStatus>> {
    // What goes in between is left out.
    let mounts = mountinfo::read()?;
    let devices = loops::find_all()?;
    let on_top = |mount: &&Mount| mountinfo::at(&mounts, &mount.mount_point) == Some(mount);
    Ok(mounts.iter().filter(on_top).filter_map(|mount| status(mount, &devices)).collect())
}

fn status(mount: &Mount, devices: &[(Label, LoopDevice, Backing)]) -> Option<MountStatus> {
    let (dir, key, layout) = match file_image::parse_any(Path::new(&mount.source)) {
        Some((_, key, _)) if mount.filesystem == "erofs" => {
            (VersionDir::of_image(Path::new(&mount.source))?, key.to_owned(), MountLayout::EROFSFile)
        }
        _ => as_filesystem(mount).or_else(|| on_loops(mount, devices))?,
    };
    if is_private(&mount.mount_point, &key) {
        return None;
    }
    let manifest = read_json::<VersionManifest>(&dir.manifest()).ok();
    let cached_percent = match layout {
        MountLayout::EROFSFile | MountLayout::EROFSLoopNative => Some(100),
        // Not all: else it would not be served through FUSE, or is about to be no more.
        MountLayout::EROFSLoopFUSE => {
            manifest.as_ref().and_then(|m| cached_percent(&dir, m)).map(|percent| percent.min(99))
        }
        MountLayout::FUSE => manifest.as_ref().and_then(|manifest| cached_percent(&dir, manifest)),
    };
    let dataset = manifest.as_ref().map(|manifest| &manifest.dataset);
    Some(MountStatus {
        mount_point: mount.mount_point.clone(),
        layout,
        dataset: dataset.map(|tag| (tag.namespace.clone(), tag.name.clone())),
        version: manifest.map(|manifest| manifest.version),
        cached_percent,
    })
}

/// The version's directory and key, and its layout.
fn as_filesystem(mount: &Mount) -> Option<(VersionDir, String, MountLayout)> {
    let (_, key) = source::parse_any(mount)?;
    Some((VersionDir::of_image(Path::new(&mount.source))?, key.to_owned(), MountLayout::FUSE))
}

/// The same.
fn on_loops(mount: &Mount, devices: &[(Label, LoopDevice, Backing)]) -> Option<(VersionDir, String, MountLayout)> {
    if !survey::is_erofs_on_loop(mount) {
        return None;
    }
    let is_image = |label: &Label, device: &LoopDevice| {
        label.role == Role::Image && device.minor().is_ok_and(|minor| minor == mount.minor)
    };
    let (label, image, _) = devices.iter().find(|(label, device, _)| is_image(label, device))?;
    let blob = Label { role: Role::BlobFor(image.number()), ..label.clone() };
    let is_native = devices.iter().any(|(of, _, backing)| *of == blob && *backing != Backing::Plain);
    let layout = if is_native { MountLayout::EROFSLoopNative } else { MountLayout::EROFSLoopFUSE };
    let mut path = fs::read(format!("/sys/block/loop{}/loop/backing_file", image.number())).ok()?;
    path.truncate(path.trim_ascii_end().len());
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    Some((VersionDir::of_image(&path)?, label.version.clone(), layout))
}

/// By what the cache's file takes on the disk: nobody is asked, and nothing is read.
fn cached_percent(dir: &VersionDir, manifest: &VersionManifest) -> Option<u8> {
    let pool = pools::dir_of(&dir.pools_file()?, &manifest.pool)?;
    let data = fs::metadata(pool.join("blobs").join(&manifest.blob_id).join("data")).ok()?;
    let percent = (data.blocks() * 512).saturating_mul(100).checked_div(manifest.blob_bytes)?;
    u8::try_from(percent.min(100)).ok()
}
