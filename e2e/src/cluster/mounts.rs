//! Mounts below the state directory.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

/// Stacked mounts need more than one pass; a real hang ends here.
const PASSES: usize = 20;

/// Makes `dir` a shared mount point, so that what a container mounts below it is seen by the host and other containers.
pub(super) fn make_shared(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    if !below(dir)?.iter().any(|mount| mount.point == dir) {
        mount_bind(dir, dir).with_context(|| format!("binding {} onto itself", dir.display()))?;
    }
    mount_change(dir, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .with_context(|| format!("making {} shared", dir.display()))
}

/// Unmounts all that is mounted at or below `dir`, the deepest first.
pub(super) fn clean_below(dir: &Path) -> Result<()> {
    for pass in 0..PASSES {
        let mounts = below(dir)?;
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in mounts.iter().rev() {
            // Detaching works where a dead FUSE server or a stray reader makes a plain unmount fail.
            if unmount(&mount.point, UnmountFlags::empty()).is_err() && pass > 0 {
                unmount(&mount.point, UnmountFlags::DETACH)
                    .with_context(|| format!("unmounting {}", mount.point.display()))?;
            }
        }
    }
    bail!("mounts below {} do not go away: {:?}", dir.display(), below(dir)?)
}

/// A mount, and the loop devices that it reads from.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    pub(super) loops: Vec<PathBuf>,
}

/// Mounts at or below `dir`, in the order in which they were made.
pub(super) fn below(dir: &Path) -> Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo").context("reading the mount table")?;
    let mounts = text.split(|byte| *byte == b'\n').filter_map(mount);
    Ok(mounts.filter(|mount| mount.point.starts_with(dir)).collect())
}

fn mount(line: &[u8]) -> Option<Mount> {
    let text = String::from_utf8_lossy(line);
    // The source, and further devices among the options, stand after a lone dash.
    let words = text.split_once(" - ").map_or("", |(_, behind)| behind).split([' ', ',', '=']);
    let loops = words.filter(|word| word.starts_with("/dev/loop")).map(PathBuf::from).collect();
    Some(Mount { point: mount_point(line)?, loops })
}

/// Field 5 of a mountinfo line (proc(5)), with its octal escapes undone.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &tail[3..];
            }
            None => {
                path.push(*first);
                rest = tail;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/mnt 2\\x")));
        assert_eq!(mount_point(b""), None);
    }

    #[test]
    fn devices_are_found_as_source_and_among_the_options() {
        let line = b"70 36 7:1 / /state/m ro shared:5 - erofs /dev/loop1 ro,user_xattr,device=/dev/loop2";
        assert_eq!(mount(line).unwrap().loops, [PathBuf::from("/dev/loop1"), PathBuf::from("/dev/loop2")]);
    }
}
