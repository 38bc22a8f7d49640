//! What this kernel can do.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use granary_image::{BLOCK_BYTES, ImageBuilder};
use rustix::mount::FsOpenFlags;

use crate::erofs;
use crate::state_dir::{remove_file, write_durably};

/// How versions are mounted on this node at best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// EROFS on image and blob themselves where a version is complete when it is mounted, and else as the next.
    EROFSFile,
    /// EROFS on two loop devices, image and blob.
    EROFSLoop,
    /// Not at all: a sentence that says what is missing and what to do.
    Unsupported(String),
}

/// EROFS takes further devices from this version on.
const LEAST_KERNEL: (u32, u32) = (5, 16);

/// Finds out by asking for each part, which also loads the modules. Images will lie in `dir`.
pub(crate) fn probe(dir: &Path) -> Layout {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match check(&release).map(|()| mount_files(dir)) {
        Ok(Ok(())) => Layout::EROFSFile,
        Ok(Err(error)) => {
            tracing::info!(%error, "this kernel mounts versions by loop devices only");
            Layout::EROFSLoop
        }
        Err(reason) => Layout::Unsupported(reason),
    }
}

/// Mounts an image without devices.
fn mount_files(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (image, data) = (dir.join("probe.erofs"), dir.join("probe.data"));
    let mut builder = ImageBuilder::new();
    builder.add_file("file", BLOCK_BYTES, 0)?;
    let mut bytes = Vec::new();
    builder.finish(BLOCK_BYTES, &mut bytes)?;
    write_durably(&image, &bytes)?;
    write_durably(&data, &[0; BLOCK_BYTES as usize])?;
    let mounted = erofs::mount_detached(&image, &data);
    for file in [image, data] {
        remove_file(&file)?;
    }
    mounted?;
    Ok(())
}

fn check(release: &str) -> Result<(), String> {
    if kernel_version(release).is_some_and(|version| version < LEAST_KERNEL) {
        let (major, minor) = LEAST_KERNEL;
        return Err(format!("it is Linux {release}, and {major}.{minor} or later is needed"));
    }
    for filesystem in ["erofs", "fuse"] {
        rustix::mount::fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|error| lack(&format!("filesystem {filesystem}"), filesystem, error.into()))?;
    }
    for (device, module) in [("/dev/loop-control", "loop"), ("/dev/fuse", "fuse")] {
        OpenOptions::new().read(true).write(true).open(device).map_err(|error| lack(device, module, error))?;
    }
    Ok(())
}

fn lack(what: &str, module: &str, error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{what} is not allowed for this user ({error}): run as root with CAP_SYS_ADMIN")
        }
        _ => format!("it has no {what} ({error}): load the kernel module {module}, or use a kernel that has it"),
    }
}

/// `6.18.2-generic` is (6, 18).
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(kernel_version("6.18.2-generic"), Some((6, 18)));
        assert_eq!(kernel_version("5.10.0"), Some((5, 10)));
        assert_eq!(kernel_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn an_old_kernel_is_named() {
        let reason = check("5.10.0-8-amd64").unwrap_err();
        assert!(reason.contains("5.10.0-8-amd64") && reason.contains("5.16"), "{reason}");
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let missing = lack("filesystem erofs", "erofs", rustix::io::Errno::NODEV.into());
        assert!(missing.contains("load the kernel module erofs"), "{missing}");
        let refused = lack("/dev/fuse", "fuse", rustix::io::Errno::PERM.into());
        assert!(refused.contains("root"), "{refused}");
    }
}
