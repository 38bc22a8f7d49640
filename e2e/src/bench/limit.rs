//! A memory cgroup of the chart's limit, page cache included.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::checkout;

/// What the chart's comment promises where it sets no limit.
const PROMISED_BYTES: u64 = 200 << 20;

/// The node container's memory limit in the chart's values, or what it promises without one.
pub(super) fn of_chart() -> Result<u64> {
    let path = checkout().join("charts/granary/values.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    from_values(&text)
}

fn from_values(text: &str) -> Result<u64> {
    let values: serde_json::Value = serde_norway::from_str(text).context("reading the chart's values")?;
    match values.pointer("/node/resources/limits/memory").and_then(serde_json::Value::as_str) {
        None => Ok(PROMISED_BYTES),
        Some(size) => parse_size(size).with_context(|| format!("the chart's memory limit {size} is no size")),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix("Gi") {
        Some(digits) => (digits, 30),
        None => (text.strip_suffix("Mi")?, 20),
    };
    Some(digits.parse::<u64>().ok()? << shift)
}

/// A cgroup; removed when dropped, which is after the processes in it have ended.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    version_1: bool,
}

impl Group {
    /// Makes a cgroup that may have `bytes` of memory.
    pub(super) fn make(bytes: u64) -> Result<Self> {
        let version_1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
        let root = if version_1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        let dir = Path::new(root).join(format!("granary-bench-{}", std::process::id()));
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
    pub(super) fn enter(&self, command: &mut Command) -> Result<()> {
        let file = File::options().write(true).open(self.dir.join("cgroup.procs")).context("opening the cgroup")?;
        // SAFETY: a write to an open file is async-signal-safe, and nothing else runs between fork and exec.
        unsafe { command.pre_exec(move || std::io::Write::write_all(&mut &file, b"0")) };
        Ok(())
    }

    /// The most that was used since the last call, page cache included; unknown where the kernel does not tell.
    pub(super) fn peak(&self) -> Option<u64> {
        let path = self.dir.join(if self.version_1 { "memory.max_usage_in_bytes" } else { "memory.peak" });
        let peak = std::fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        // Where it cannot be reset, it is the peak since the begin.
        let _ = std::fs::write(&path, "0");
        Some(peak)
    }
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
    fn the_limit_is_the_charts_or_what_it_promises() {
        let values = |limits: &str| format!("node:\n  resources:\n    requests: {{memory: 128Mi}}\n{limits}");
        assert_eq!(from_values(&values("    limits: {memory: 512Mi}\n")).unwrap(), 512 << 20);
        assert_eq!(from_values(&values("    limits: {memory: 1Gi}\n")).unwrap(), 1 << 30);
        assert_eq!(from_values(&values("")).unwrap(), PROMISED_BYTES);
        assert!(from_values(&values("    limits: {memory: much}\n")).is_err());
        assert!(of_chart().unwrap() >= 64 << 20);
    }
}
