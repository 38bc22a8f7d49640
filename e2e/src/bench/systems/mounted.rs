//! A mount with the process that serves it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::Place;
use crate::bench::cpu::Snapshot;
use crate::progress;

const MOUNT_LIMIT: Duration = Duration::from_secs(180);
const END_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// A mount with the process that serves it, if there is one; both end when it is dropped.
pub(in super::super) struct Mounted {
    /// Where the data set's keys are.
    pub(in super::super) path: PathBuf,
    child: Option<Child>,
    mount_point: PathBuf,
}

/// How a serving process is started.
pub(in super::super) struct Starting<'a> {
    pub(in super::super) command: Command,
    /// Where the data set's keys will be, below the mount point.
    pub(in super::super) path: PathBuf,
    /// A word that the process logs when it has mounted; without it, the mount table says so.
    pub(in super::super) says: Option<&'a str>,
}

impl Mounted {
    /// A directory that needs no process.
    pub(in super::super) fn directory(path: PathBuf) -> Self {
        Self { mount_point: path.clone(), path, child: None }
    }

    /// Starts the process, in the cgroup of `place`, and waits until it has mounted `mount_point(place)`.
    pub(in super::super) fn start(mut starting: Starting, place: &Place) -> Result<Self> {
        let (mount, log) = (mount_point(place), place.work.join("log"));
        std::fs::create_dir_all(&mount).or_else(|error| match error.kind() {
            // What a killed process left mounted there, for its successor.
            _ if is_mounted(&mount) => Ok(()),
            _ => Err(error),
        })?;
        let out = File::create(&log)?;
        let command = &mut starting.command;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        if let Some(group) = place.group {
            group.enter(command)?;
        }
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut mounted = Self { path: starting.path, child: Some(child), mount_point: mount };
        let begun = Instant::now();
        let ready = |mounted: &Self| match starting.says {
            Some(word) => std::fs::read_to_string(&log).is_ok_and(|text| text.contains(word)),
            None => is_mounted(&mounted.mount_point),
        };
        while !ready(&mounted) || !mounted.path.exists() {
            if let Some(status) = mounted.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("{command:?} ended ({status}): {}", crate::exec::tail_of(&log));
            }
            if begun.elapsed() > MOUNT_LIMIT {
                bail!("{command:?} does not mount: {}", crate::exec::tail_of(&log));
            }
            std::thread::sleep(POLL);
        }
        Ok(mounted)
    }

    /// The serving process.
    pub(in super::super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the serving process has not ended.
    pub(in super::super) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills the process with SIGKILL; what it mounted stays, if `leave`.
    pub(in super::super) fn kill(mut self, leave: bool) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            // Some are two processes, of which one starts the other again: all are told before any is waited for.
            for pid in Snapshot::take()?.pids_of(child.id()) {
                send(pid, Signal::KILL);
            }
            child.wait().context("waiting for a killed process")?;
            if !leave {
                unmount_all(&self.mount_point);
            }
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Ends by itself if it can, so that its caches are written.
        send(child.id(), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < END_LIMIT && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Both fail only if it has ended.
        let _ = child.kill();
        let _ = child.wait();
        unmount_all(&self.mount_point);
    }
}

/// Where a system is mounted.
pub(in super::super) fn mount_point(place: &Place) -> PathBuf {
    place.work.join("mnt")
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It fails only if the process has ended.
        let _ = kill_process(pid, signal);
    }
}

fn unmount_all(path: &Path) {
    while is_mounted(path) {
        if let Err(error) = unmount(path, UnmountFlags::DETACH) {
            progress::note(format!("{} stays mounted: {error}", path.display()));
            return;
        }
    }
}

/// Ends all mounts and loop devices below `work`: what a killed process left that no successor took over.
pub(in super::super) fn clear(work: &Path) {
    let mut mounts = mount_points();
    mounts.retain(|mount| mount.starts_with(work));
    mounts.iter().rev().for_each(|mount| unmount_all(mount));
    for (device, file) in loops() {
        if file.starts_with(work)
            && let Err(error) = crate::exec::output(Command::new("losetup").arg("--detach").arg(&device))
        {
            progress::note(format!("{} stays attached: {error:#}", device.display()));
        }
    }
}

/// Loop devices with the files that they are over.
pub(in super::super) fn loops() -> Vec<(PathBuf, PathBuf)> {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let attached = entries.filter_map(|entry| {
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        Some((Path::new("/dev").join(entry.file_name()), PathBuf::from(file.trim_end_matches('\n'))))
    });
    attached.collect()
}

fn mount_points() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn is_mounted(path: &Path) -> bool {
    mount_points().iter().any(|mount| mount == path)
}
