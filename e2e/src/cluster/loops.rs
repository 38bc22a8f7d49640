//! Loop devices of the cluster: over files below the state directory, or under mounts below it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::mounts;
use crate::exec;

/// An attached loop device. Two are equal when it is the same device over the same file: numbers are used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loop {
    pub(super) device: PathBuf,
    /// Device and inode of the file. Its path may name nothing: that of a file in a container's own mount namespace is
    /// relative to what is left of that once the container has gone.
    file: String,
    path: PathBuf,
}

/// The loop devices that belong to what is below `dir`.
pub(super) fn of(dir: &Path) -> Result<Vec<Loop>> {
    let mounted: Vec<PathBuf> = mounts::below(dir)?.into_iter().flat_map(|mount| mount.loops).collect();
    Ok(attached()?.into_iter().filter(|one| one.path.starts_with(dir) || mounted.contains(&one.device)).collect())
}

/// Frees those of `loops` that are still attached to the same file.
pub(super) fn detach(loops: &[Loop]) -> Result<()> {
    for _ in 0..50 {
        let left: Vec<Loop> = attached()?.into_iter().filter(|one| is_among(one, loops)).collect();
        if left.is_empty() {
            return Ok(());
        }
        for one in &left {
            exec::output(Command::new("losetup").arg("--detach").arg(&one.device))?;
        }
        // The kernel frees it when the last that has it open closes it.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    bail!("loop devices of the cluster stay in use: {loops:?}")
}

fn is_among(one: &Loop, loops: &[Loop]) -> bool {
    loops.iter().any(|other| one.device == other.device && one.file == other.file)
}

fn attached() -> Result<Vec<Loop>> {
    let mut list = Command::new("losetup");
    list.args(["--list", "--raw", "--noheadings", "--output", "NAME,BACK-MAJ:MIN,BACK-INO,BACK-FILE"]);
    Ok(exec::output(&mut list)?.lines().filter_map(parse).collect())
}

/// Name, device, inode and path; in the raw form blanks are escaped, so the columns can be split.
fn parse(line: &str) -> Option<Loop> {
    let mut columns = line.split_whitespace();
    let (name, device, inode) = (columns.next()?, columns.next()?, columns.next()?);
    let path = columns.next().unwrap_or_default().replace("\\x20", " ");
    let file = format!("{} {inode}", device.replace("\\x20", ""));
    Some(Loop { device: name.into(), file, path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_known_by_its_file_not_by_its_path() {
        let before = parse(r"/dev/loop0 \x20\x20254:0\x20 9984133 /state/a\x20b").unwrap();
        assert_eq!(before.path, Path::new("/state/a b"));
        let after = parse(r"/dev/loop0 \x20\x20254:0\x20 9984133 /b\x20(deleted)").unwrap();
        assert!(is_among(&after, std::slice::from_ref(&before)));
        let reused = parse(r"/dev/loop0 \x20\x20254:0\x20 77 /else").unwrap();
        assert!(!is_among(&reused, &[before]));
    }
}
