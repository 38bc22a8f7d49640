//! Memory that the host has to give is given before a measurement, not in it.
//!
//! A virtual machine's free memory may lie with the host. Its first touch then costs seconds per GiB, whoever touches it: page cache
//! filled by the disk's own filesystem pays as much as a reader's buffers. Between two systems that would be chance.

use anyhow::{Context, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// As much as reading the largest data set once takes: its pages in a mount and in a cache's file, and buffers.
const TOUCHED: u64 = 5 << 30;
/// What is left to everything else.
const LEFT: u64 = 1 << 30;

/// Touches free memory and gives it back.
pub(super) fn memory() -> Result<()> {
    let free = free_memory(&std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?);
    touch(usize::try_from(free.saturating_sub(LEFT).min(TOUCHED))?)
}

fn touch(bytes: usize) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    // SAFETY: a new private mapping, which nothing refers to; it is unmapped below and used by nobody until then.
    unsafe {
        let start = rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
        .context("mapping memory")?;
        // Populating in large pages is quicker; where there are none, small ones serve.
        let _ = rustix::mm::madvise(start, bytes, Advice::LinuxHugepage);
        let populated = rustix::mm::madvise(start, bytes, Advice::LinuxPopulateWrite);
        rustix::mm::munmap(start, bytes).context("giving memory back")?;
        populated.context("touching memory")
    }
}

/// Bytes that are free now, without what the page cache would have to give up.
fn free_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemFree:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_found_and_memory_touched() {
        assert_eq!(free_memory("MemTotal: 9 kB\nMemFree:    2048 kB\nMemAvailable: 3 kB\n"), 2 << 20);
        assert_eq!(free_memory("nothing"), 0);
        touch(0).unwrap();
        touch(8 << 20).unwrap();
    }
}
