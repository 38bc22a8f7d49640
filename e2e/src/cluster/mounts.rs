//! Mounts and loop devices below the state directory.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

use crate::exec;

/// Stacked mounts and loops over FUSE need more than one pass; a real hang ends here.
const PASSES: usize = 20;

/// Makes `dir` a shared mount point, so that what a container mounts below it is seen by the host and other containers.
pub(super) fn make_shared(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    if !mount_points()?.iter().any(|point| point == dir) {
        mount_bind(dir, dir).with_context(|| format!("binding {} onto itself", dir.display()))?;
    }
    mount_change(dir, MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .with_context(|| format!("making {} shared", dir.display()))
}

/// Unmounts all that is mounted at or below `dir`, the deepest first, and frees the loop devices whose file lies below it.
pub(super) fn clean_below(dir: &Path) -> Result<()> {
    for pass in 0..PASSES {
        let points: Vec<PathBuf> = mount_points()?.into_iter().filter(|point| point.starts_with(dir)).collect();
        let loops = loops_below(dir)?;
        if points.is_empty() && loops.is_empty() {
            return Ok(());
        }
        for point in points.iter().rev() {
            // Detaching at once also works where a dead FUSE server or a stray reader makes a plain unmount fail.
            if unmount(point, UnmountFlags::empty()).is_err() && pass > 0 {
                unmount(point, UnmountFlags::DETACH).with_context(|| format!("unmounting {}", point.display()))?;
            }
        }
        for device in loops {
            exec::output(Command::new("losetup").arg("--detach").arg(&device))?;
        }
        if pass > 2 {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
    bail!(
        "mounts or loop devices below {} do not go away: {:?} {:?}",
        dir.display(),
        mounts_below(dir)?,
        loops_below(dir)?
    )
}

/// Mount points at or below `dir`.
pub(super) fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(mount_points()?.into_iter().filter(|point| point.starts_with(dir)).collect())
}

/// Loop devices whose backing file lies below `dir`.
pub(super) fn loops_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").context("listing block devices")?.flatten() {
        let Ok(backing) = std::fs::read(entry.path().join("loop/backing_file")) else {
            continue;
        };
        let backing = PathBuf::from(OsString::from_vec(backing.trim_ascii_end().to_vec()));
        if backing.starts_with(dir) {
            found.push(Path::new("/dev").join(entry.file_name()));
        }
    }
    Ok(found)
}

fn mount_points() -> Result<Vec<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo").context("reading the mount table")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(mount_point).collect())
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
}
