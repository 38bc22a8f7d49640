//! CPU time and memory from /proc: of the whole machine, of our own processes, of the kernel's, and of everybody else's.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};

/// Clock ticks a second: constant in Linux's interfaces to user space.
const TICKS: f64 = 100.0;
/// A kernel thread's flag in `/proc/PID/stat` (PF_KTHREAD).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// One process.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    name: String,
    parent: u32,
    kernel: bool,
    /// Its own time, in seconds.
    own: f64,
    /// That of its children that have ended and were waited for.
    children: f64,
}

/// All CPU time that was spent until now.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// What processes spent, in seconds.
    processes_total: f64,
    /// What interrupts took besides.
    interrupts: f64,
    processes: HashMap<u32, Process>,
}

/// CPU time between two snapshots, in seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Spent {
    /// Of the whole machine.
    pub(super) machine: f64,
    /// Of the benchmark's server.
    pub(super) server: f64,
    /// Of processes that have nothing to do with the benchmark.
    pub(super) others: f64,
    /// The busiest of those.
    pub(super) busiest: Vec<String>,
}

impl Snapshot {
    pub(super) fn take() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let (processes_total, interrupts) = parse_machine(&stat).context("the first line of /proc/stat")?;
        let entries = std::fs::read_dir("/proc").context("listing processes")?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        // One that has ended since it was listed is left out.
        let read = |pid| Some((pid, parse_process(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?));
        Ok(Self { processes_total, interrupts, processes: pids.filter_map(read).collect() })
    }

    /// What was spent since `before`; `server` is the server's process.
    pub(super) fn since(&self, before: &Self, server: Option<u32>) -> Spent {
        let mut ours = self.tree(std::process::id());
        ours.extend(before.tree(std::process::id()));
        let whole = |all: &Self| -> f64 {
            all.processes.iter().filter(|(pid, _)| ours.contains(pid)).map(|(_, p)| p.own + p.children).sum()
        };
        let kernel = |all: &Self| -> f64 { all.processes.values().filter(|p| p.kernel).map(|p| p.own).sum() };
        let of_server = |all: &Self| server.and_then(|pid| all.processes.get(&pid)).map_or(0.0, |p| p.own);
        let processes = self.processes_total - before.processes_total;
        let known = whole(self) - whole(before) + (kernel(self) - kernel(before)).max(0.0);
        Spent {
            machine: processes + self.interrupts - before.interrupts,
            server: of_server(self) - of_server(before),
            others: (processes - known).max(0.0),
            busiest: self.busiest(before, &ours),
        }
    }

    /// Names of the three busiest processes that are neither ours nor the kernel's.
    fn busiest(&self, before: &Self, ours: &HashSet<u32>) -> Vec<String> {
        let spent = |(pid, process): (&u32, &Process)| {
            let earlier = before.processes.get(pid).map_or(0.0, |p| p.own + p.children);
            (process.name.clone(), process.own + process.children - earlier)
        };
        let others = self.processes.iter().filter(|(pid, process)| !process.kernel && !ours.contains(pid));
        let mut all: Vec<_> = others.map(spent).filter(|(_, seconds)| *seconds >= 0.02).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.into_iter().take(3).map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect()
    }

    /// `root` and all that descend from it.
    fn tree(&self, root: u32) -> HashSet<u32> {
        let mut found = HashSet::from([root]);
        loop {
            let children = self.processes.iter().filter(|(_, process)| found.contains(&process.parent));
            let more: Vec<u32> = children.map(|(pid, _)| *pid).filter(|pid| !found.contains(pid)).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// CPU time of `root` and its descendants, also of those that have ended.
    pub(super) fn seconds_of(&self, root: u32) -> f64 {
        let tree = self.tree(root);
        self.processes.iter().filter(|(pid, _)| tree.contains(pid)).map(|(_, p)| p.own + p.children).sum()
    }

    /// The processes that descend from `root`, and itself.
    pub(super) fn pids_of(&self, root: u32) -> Vec<u32> {
        self.tree(root).into_iter().collect()
    }
}

/// Forgets the peak of a process' resident memory, so that the next one is that of what follows.
pub(super) fn reset_peak_memory(pid: u32) {
    // A process that has ended has no peak.
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Peak resident memory of a process in bytes; 0 if it has ended.
pub(super) fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    peak.unwrap_or(0) * 1024
}

/// Seconds of processes (user, nice, system) and of interrupts, from `cpu  user nice system idle iowait irq softirq ...`.
fn parse_machine(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    Some((fields.get(..3)?.iter().sum::<f64>() / TICKS, fields.get(5..7)?.iter().sum::<f64>() / TICKS))
}

/// Fields 2, 4, 9 and 14 to 17 of `/proc/PID/stat` (proc(5)).
fn parse_process(stat: &str) -> Option<Process> {
    // The name is in parentheses and may itself have any character.
    let (before, after) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        name: before.split_once('(')?.1.to_owned(),
        parent: u32::try_from(number(1)?).ok()?,
        kernel: number(6)? & KERNEL_THREAD != 0,
        own: (number(11)? + number(12)?) as f64 / TICKS,
        children: (number(13)? + number(14)?) as f64 / TICKS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = "77 (a) (b c) S 5 77 77 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 9 9 9";
        let process = parse_process(line).unwrap();
        assert_eq!(process, Process { name: "a) (b c".into(), parent: 5, kernel: false, own: 2.0, children: 0.5 });
        assert!(parse_process(&line.replace("4194560", "2129984")).unwrap().kernel);
        assert_eq!(parse_process("77 (short) S 5"), None);
    }

    #[test]
    fn the_machines_line_is_split_into_processes_and_interrupts() {
        let stat = "cpu  100 20 80 9999 500 10 40 7 0 0\ncpu0 1 2 3\n";
        assert_eq!(parse_machine(stat), Some((2.0, 0.5)));
    }

    #[test]
    fn what_is_not_ours_is_others() {
        let me = std::process::id();
        let process =
            |name: &str, parent, kernel, own| Process { name: name.into(), parent, kernel, own, children: 0.0 };
        let at = |mine, mount, server, kernel, other, total| Snapshot {
            processes_total: total,
            interrupts: total / 10.0,
            processes: HashMap::from([
                (me, process("bench", 1, false, mine)),
                (1_000_001, process("mount", me, false, mount)),
                (1_000_002, process("server", me, false, server)),
                (1_000_003, process("loop0", 2, true, kernel)),
                (1_000_004, process("rustc", 1, false, other)),
            ]),
        };
        let (before, after) = (at(1.0, 1.0, 1.0, 1.0, 1.0, 10.0), at(2.0, 3.0, 4.0, 1.5, 2.25, 20.0));
        let spent = after.since(&before, Some(1_000_002));
        assert_eq!((spent.machine, spent.server, spent.others), (11.0, 3.0, 3.5));
        assert_eq!(spent.busiest, ["rustc 1.2 s"]);
        assert_eq!(after.seconds_of(1_000_001), 3.0);
    }

    #[test]
    fn this_process_is_found_with_its_memory() {
        let now = Snapshot::take().unwrap();
        assert!(now.pids_of(std::process::id()).contains(&std::process::id()));
        assert!(peak_memory(std::process::id()) > 1 << 20);
        assert_eq!(peak_memory(u32::MAX), 0);
    }
}
