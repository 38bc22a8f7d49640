//! A memory cgroup, page cache included.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use anyhow::{Context, Result};

/// A cgroup; removed when dropped, which is after the processes in it have ended.
#[derive(Debug)]
pub struct Group {
    dir: PathBuf,
    version_1: bool,
}

/// What of a group's memory its processes and the kernel work with, in bytes: what cannot be taken back by dropping pages of files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    /// Memory of processes that is no file's.
    pub anonymous: u64,
    /// Memory that the kernel has for them: stacks of threads, tables, buffers of sockets. Unknown (0) where it is not told apart.
    pub kernel: u64,
}

impl Group {
    /// Makes a cgroup that may have `bytes` of memory.
    pub fn make(bytes: u64) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let version_1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
        let root = if version_1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let name = format!("granary-e2e-{}-{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        let dir = Path::new(root).join(name);
        if !version_1 {
            // Already on where something else manages cgroups.
            let _ = std::fs::write(Path::new(root).join("cgroup.subtree_control"), "+memory");
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("making the cgroup {}", dir.display()))?;
        let group = Self { dir, version_1 };
        let file = if version_1 { "memory.limit_in_bytes" } else { "memory.max" };
        std::fs::write(group.dir.join(file), bytes.to_string())
            .with_context(|| format!("limiting the memory of {}", group.dir.display()))?;
        Ok(group)
    }

    /// Makes `command` run in it.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        let file = File::options().write(true).open(self.dir.join("cgroup.procs")).context("opening the cgroup")?;
        // SAFETY: a write to an open file is async-signal-safe, and nothing else runs between fork and exec.
        unsafe { command.pre_exec(move || std::io::Write::write_all(&mut &file, b"0")) };
        Ok(())
    }

    /// The most that was used since the last call, page cache included; unknown where the kernel does not tell.
    pub fn peak(&self) -> Option<u64> {
        let path = self.dir.join(if self.version_1 { "memory.max_usage_in_bytes" } else { "memory.peak" });
        let peak = std::fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        // Where it cannot be reset, it is the peak since the begin.
        let _ = std::fs::write(&path, "0");
        Some(peak)
    }

    /// What is held now.
    pub fn held(&self) -> Option<Held> {
        let stat = std::fs::read_to_string(self.dir.join("memory.stat")).ok()?;
        let kernel = if self.version_1 {
            std::fs::read_to_string(self.dir.join("memory.kmem.usage_in_bytes")).ok()?.trim().parse().ok()?
        } else {
            value(&stat, "kernel").unwrap_or_default()
        };
        Some(Held { anonymous: value(&stat, if self.version_1 { "rss" } else { "anon" })?, kernel })
    }

    /// How many processes were killed since they wanted more.
    pub fn killed(&self) -> Option<u64> {
        let file = if self.version_1 { "memory.oom_control" } else { "memory.events" };
        value(&std::fs::read_to_string(self.dir.join(file)).ok()?, "oom_kill")
    }

    /// Takes back all pages of files that can be taken back now.
    pub fn reclaim(&self) {
        // Both answer with an error when not all of it could be had, which is no matter here.
        let _ = match self.version_1 {
            true => std::fs::write(self.dir.join("memory.force_empty"), "0"),
            false => std::fs::write(self.dir.join("memory.reclaim"), "1G"),
        };
    }
}

/// The number that follows `name` in a list of names and numbers.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel empties it a moment after the last process has gone.
        for _ in 0..50 {
            match std::fs::remove_dir(&self.dir) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                _ => return,
            }
        }
        crate::progress::note(format!("the cgroup {} stays busy", self.dir.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_names() {
        let text = "anon_thp 1\nanon 23\noom_kill_disable 0\noom_kill 4\n";
        assert_eq!((value(text, "anon"), value(text, "oom_kill"), value(text, "file")), (Some(23), Some(4), None));
    }
}
