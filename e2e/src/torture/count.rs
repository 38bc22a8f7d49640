//! What a node process can leave behind, counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags};

use super::lab::Lab;
use super::node::Node;

/// How long the kernel may take to let go of what nobody has any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that is counted, by a name that says what it is.
pub type Counts = BTreeMap<&'static str, usize>;

/// Counts what belongs to one lab; of FUSE connections and superblocks, what the whole machine has.
pub struct Counter {
    dir: PathBuf,
    connections: PathBuf,
}

impl Counter {
    /// Mounts the filesystem that shows FUSE connections at a place of its own: it may be mounted nowhere.
    pub fn new(lab: &Lab) -> Result<Self> {
        let connections = lab.dir().join("fusectl");
        rustix::mount::mount("none", &connections, "fusectl", MountFlags::empty(), None).context("mounting fusectl")?;
        Ok(Self { dir: lab.dir().to_owned(), connections })
    }

    /// Counts now, what a keeper has included.
    pub fn take(&self, node: &Node) -> Result<Counts> {
        let process = PathBuf::from(format!("/proc/{}", node.pid()));
        let keeper = node.keeper().map(|pid| entries(Path::new(&format!("/proc/{pid}/fd")))).transpose()?;
        let state = self.dir.join("state");
        Ok(BTreeMap::from([
            ("mounts", self.mounts()?),
            ("loop devices", self.loops()?),
            ("superblocks without a device", entries(Path::new("/sys/fs/erofs"))?),
            ("FUSE connections", entries(&self.connections)?),
            ("descriptors", entries(&process.join("fd"))?),
            ("descriptors of the keeper", keeper.unwrap_or_default()),
            ("threads of FUSE sessions", session_threads(&process)?),
            ("records of volumes", entries(&state.join("volumes"))?),
            ("directories of targets", entries(&self.dir.join("targets"))?),
            ("half-written files of the state", half_written(&state)?),
        ]))
    }

    /// Waits until the counts are these, or at most these; the kernel takes a moment.
    pub fn expect(&self, node: &Node, wanted: &Counts) -> Result<()> {
        let begun = Instant::now();
        loop {
            let counts = self.take(node)?;
            let more: Vec<_> = counts.iter().filter(|(what, count)| wanted[*what] < **count).collect();
            if more.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let open = descriptors(node.pid());
                bail!("more is left than before: {more:?}, where there were {wanted:?}; it has open: {open:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn mounts(&self) -> Result<usize> {
        let dir = self.dir.display().to_string();
        let text = fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
        Ok(text.lines().filter(|line| line.contains(&dir)).count())
    }

    /// Devices over files of ours; of those over a blob's FUSE file, which is at no place, all on the machine.
    fn loops(&self) -> Result<usize> {
        let dir = self.dir.display().to_string();
        let mut count = 0;
        for entry in fs::read_dir("/sys/block").context("listing block devices")? {
            let file = fs::read_to_string(entry?.path().join("loop/backing_file")).unwrap_or_default();
            count += usize::from(file.starts_with(&dir) || file.starts_with("/granary.blob"));
        }
        Ok(count)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // The lab tries again.
        let _ = rustix::mount::unmount(&self.connections, UnmountFlags::DETACH);
    }
}

/// Number of entries of a directory, if it is there.
pub fn entries(dir: &Path) -> Result<usize> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        list => Ok(list.with_context(|| format!("listing {}", dir.display()))?.count()),
    }
}

/// What a process has open.
fn descriptors(pid: u32) -> Vec<PathBuf> {
    let list = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    list.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

fn session_threads(process: &Path) -> Result<usize> {
    let tasks = fs::read_dir(process.join("task")).context("listing threads")?.flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    Ok(names.filter(|name| name.starts_with("fuser-") || name.starts_with("granary-fuse")).count())
}

/// Files that are renamed when they are complete.
fn half_written(state: &Path) -> Result<usize> {
    let files = walkdir::WalkDir::new(state).into_iter().filter_entry(|entry| entry.file_name() != "mnt").flatten();
    Ok(files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "new")).count())
}
