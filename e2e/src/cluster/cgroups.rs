//! The node's cgroup: all pods lie below it, so whatever is in it is ours.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layout::Node;
use crate::daemon;

/// Makes the node's cgroup in every hierarchy (one of version 2, or one for each controller of version 1).
pub(super) fn up(node: &Node) -> Result<()> {
    for root in hierarchies()? {
        let group = root.join(node.cgroup());
        if group.is_dir() {
            continue;
        }
        std::fs::create_dir(&group).with_context(|| format!("making the cgroup {}", group.display()))?;
        // A new cpuset of version 1 is empty, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if is_version_1(&root) && group.join(file).exists() {
                std::fs::copy(root.join(file), group.join(file)).with_context(|| format!("copying {file}"))?;
            }
        }
    }
    Ok(())
}

/// The node's cgroups that exist.
pub(super) fn existing(node: &Node) -> Result<Vec<PathBuf>> {
    Ok(mounted()?.into_iter().map(|root| root.join(node.cgroup())).filter(|group| group.is_dir()).collect())
}

/// Kills what is left in the node's cgroup and removes it.
pub(super) fn down(node: &Node) -> Result<()> {
    for group in existing(node)? {
        for dir in below(&group) {
            let processes = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| line.trim().parse().ok()) {
                daemon::terminate(pid, std::time::Duration::ZERO)?;
            }
            remove(&dir)?;
        }
    }
    Ok(())
}

/// The kernel empties a cgroup a moment after the last process has gone.
fn remove(dir: &Path) -> Result<()> {
    for _ in 0..100 {
        match std::fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing the cgroup {}", dir.display()));
            }
            _ => return Ok(()),
        }
    }
    anyhow::bail!("the cgroup {} stays busy", dir.display())
}

/// `dir` and all directories below it, the deepest first.
fn below(dir: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(dir).contents_first(true).into_iter().flatten();
    walk.filter(|entry| entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect()
}

/// The mount points of the hierarchies that containers live in: those of version 1, or that of version 2 where there are none.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let (version_1, version_2): (Vec<_>, Vec<_>) = mounted()?.into_iter().partition(|root| is_version_1(root));
    Ok(if version_1.is_empty() { version_2 } else { version_1 })
}

/// The mount points of all hierarchies. Where both versions are mounted, runc makes groups in both.
fn mounted() -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("reading the mount table")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|field| matches!(field.get(2), Some(&"cgroup" | &"cgroup2")));
    Ok(cgroups.map(|field| PathBuf::from(field[1])).collect())
}

fn is_version_1(root: &Path) -> bool {
    !root.join("cgroup.controllers").exists()
}
