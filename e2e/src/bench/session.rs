//! One system on one data set over one link: brought into the state that a row wants, and measured.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::cpu::{self, Snapshot};
use super::figures::Cell;
use super::limit::Group;
use super::origin::Origin;
use super::quiet;
use super::rows::{Link, Row, State, Task, Unit};
use super::systems::{Mounted, Place, System, clear};
use super::task::{Deadline, Loader, Outcome};
use super::warm;
use crate::progress;

/// How long reading goes on over the direct link, finished or not.
const DIRECT_LIMIT: Duration = Duration::from_secs(60);
/// The same over the slow one; 2 GiB take 17 s of it.
const SLOW_LIMIT: Duration = Duration::from_secs(20);

/// What is the same in all sessions.
pub(super) struct Bench<'a> {
    pub(super) dir: &'a Path,
    pub(super) origin: &'a Origin,
    pub(super) loader: &'a Loader,
    /// Bytes of the memory cgroup of limited rows.
    pub(super) memory_limit: u64,
    /// How often a disturbed measurement is repeated at most.
    pub(super) repeats: u32,
}

/// A system on a data set.
pub(super) struct Session<'a> {
    bench: &'a Bench<'a>,
    system: &'a dyn System,
    row: Row,
    mounted: Option<Mounted>,
    /// Whether everything was read through this cache.
    filled: bool,
    /// Whether the data set need not be listed to be mounted.
    known: bool,
    // Last, so that the mount is gone when they are removed.
    work: TempDir,
    group: Option<Group>,
}

impl<'a> Session<'a> {
    /// For the rows of `row`'s group.
    pub(super) fn begin(bench: &'a Bench<'a>, system: &'a dyn System, row: &Row) -> Result<Self> {
        let work = tempfile::Builder::new().prefix("run-").tempdir_in(bench.dir).context("making a run's directory")?;
        let group = if row.limited { Some(Group::make(bench.memory_limit)?) } else { None };
        let session = Self { bench, system, row: row.clone(), mounted: None, filled: false, known: false, work, group };
        // Always over the direct link: it is not measured.
        system.prepare(&Place { port: bench.origin.port(Link::Direct), ..session.place() })?;
        Ok(session)
    }

    fn place(&self) -> Place<'_> {
        Place {
            dir: self.bench.dir,
            work: self.work.path(),
            dataset: self.row.dataset,
            port: self.bench.origin.port(self.row.link),
            group: self.group.as_ref(),
            known: self.known,
        }
    }

    /// Measures `row`, again while others disturb it; the least disturbed measurement counts.
    pub(super) fn measure(&mut self, row: &Row) -> Result<Cell> {
        let mut best: Option<Cell> = None;
        for attempt in 0..=self.bench.repeats {
            quiet::wait()?;
            let cell = self.measure_once(row)?;
            if cell.disturbed {
                let what = if attempt < self.bench.repeats { "measured again" } else { "the best of these counts" };
                progress::note(format!("disturbed by {} ({}); {what}", cell.busy.join(", "), cell.value));
            }
            if best.as_ref().is_none_or(|best| cell.others < best.others) {
                best = Some(cell);
            }
            if best.as_ref().is_some_and(|best| !best.disturbed) {
                break;
            }
        }
        best.context("a row is measured at least once")
    }

    fn measure_once(&mut self, row: &Row) -> Result<Cell> {
        self.bring(row)?;
        warm::memory()?;
        if let Some(pid) = self.pid() {
            cpu::reset_peak_memory(pid);
        }
        if let Some(group) = &self.group {
            group.peak();
        }
        let served = self.bench.origin.served()?;
        let before = Snapshot::take()?;
        let own_before = self.pid().map_or(0.0, |pid| before.seconds_of(pid));
        let begun = Instant::now();
        let done = self.carry_out(row)?;
        let seconds = begun.elapsed().as_secs_f64();
        let after = Snapshot::take()?;
        let spent = after.since(&before, Some(self.bench.origin.pid()));
        let served = self.bench.origin.served()? - served;
        if row.task.reads_all() {
            self.filled = self.filled || done.bytes >= row.dataset.bytes();
        }
        let alive = self.mounted.as_mut().is_none_or(Mounted::is_alive);
        ensure!(alive, "the serving process of {} ended while it was read", self.system.name());
        let disturbed = quiet::is_disturbed(&spent, seconds);
        let peak = self.pid().map_or(0, |pid| after.pids_of(pid).into_iter().map(cpu::peak_memory).sum());
        let took = done.seconds.unwrap_or(seconds);
        let value = match row.unit() {
            Unit::Bytes => done.bytes as f64 / took,
            Unit::Count => done.count as f64 / took,
            Unit::Seconds => took,
            Unit::Percent => done.percent,
        };
        Ok(Cell {
            value,
            bytes: done.bytes,
            count: done.count,
            seconds: took,
            // What others used is left out only where it is much: else it may be an error of counting.
            cpu_seconds: spent.machine - spent.server - if disturbed { spent.others } else { 0.0 },
            own_cpu_seconds: self.pid().map_or(0.0, |pid| after.seconds_of(pid)) - own_before,
            peak_memory: peak,
            peak_group: self.group.as_ref().and_then(Group::peak),
            requests: served.requests,
            source_bytes: served.bytes,
            others: spent.others / seconds,
            disturbed,
            busy: spent.busiest,
            layout: self.mounted.as_ref().and_then(|_| self.system.layout(&self.place())).map(str::to_owned),
        })
    }

    fn pid(&self) -> Option<u32> {
        self.mounted.as_ref().and_then(Mounted::pid)
    }

    fn carry_out(&mut self, row: &Row) -> Result<Outcome> {
        let deadline = Deadline::after(if row.link == Link::Slow { SLOW_LIMIT } else { DIRECT_LIMIT });
        if self.system.does_itself(row) {
            return self.system.own_task(row, &self.place(), deadline);
        }
        if self.mounted.is_none() {
            self.mounted = Some(self.system.mount(&self.place())?);
        }
        let mounted = self.mounted.as_ref().context("it was just mounted")?;
        row.task.run(row.dataset, &mounted.path, self.bench.loader, deadline)
    }

    /// Brings caches and mount into the state that the row begins with.
    fn bring(&mut self, row: &Row) -> Result<()> {
        if !matches!(row.state, State::Cold | State::Unmounted) {
            self.fill(row)?;
        }
        match row.state {
            State::Cold | State::Unmounted => self.empty()?,
            State::Again => return Ok(()),
            State::Switched => self.system.settle(&self.place())?,
            State::Remounted | State::Known => self.mounted = None,
            State::Restarted => {
                if let Some(mounted) = self.mounted.take() {
                    mounted.kill(self.system.adopts())?;
                }
            }
        }
        drop_page_cache()?;
        self.known = row.state == State::Known;
        let is_timed = matches!(row.state, State::Unmounted | State::Known);
        if self.mounted.is_none() && !is_timed && !self.system.does_itself(row) {
            self.mounted = Some(self.system.mount(&self.place())?);
        }
        Ok(())
    }

    /// Reads everything, unless that was done, on a mount that is there.
    fn fill(&mut self, row: &Row) -> Result<()> {
        if self.mounted.is_none() {
            self.mounted = Some(self.system.mount(&self.place())?);
        }
        if !self.filled && row.task.reads_data() {
            let task = Task::filling(row.dataset);
            let path = &self.mounted.as_ref().context("it was just mounted")?.path;
            task.run(row.dataset, path, self.bench.loader, Deadline::after(Duration::from_secs(600)))?;
            self.filled = true;
        }
        Ok(())
    }

    /// Takes away the mount and all caches.
    fn empty(&mut self) -> Result<()> {
        self.mounted = None;
        self.filled = false;
        clear(self.work.path());
        for entry in std::fs::read_dir(self.work.path())? {
            let path = entry?.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.mounted = None;
        clear(self.work.path());
    }
}

fn drop_page_cache() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache")
}
