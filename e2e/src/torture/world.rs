//! What readers and the one who makes trouble share.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::lab::Version;
use super::progress::Progress;
use super::window::Window;

/// One target, and what is there.
pub(super) struct Target {
    pub(super) path: PathBuf,
    /// Read while somebody reads below the target.
    pub(super) shown: RwLock<Shown>,
}

/// What a target shows.
#[derive(Clone, Copy, Default)]
pub(super) struct Shown {
    /// Which of all versions.
    pub(super) version: Option<usize>,
    /// Counts changes.
    pub(super) generation: u64,
}

/// Everything of one run.
pub(super) struct World {
    pub(super) versions: Vec<Version>,
    /// The dataset of each version.
    pub(super) datasets: Vec<usize>,
    pub(super) targets: Vec<Target>,
    /// Open while no node process serves, and nobody keeps what its successor needs.
    pub(super) away: Window,
    /// For each dataset; open while its source is broken for good, or while a process was killed that could not be gone on with.
    pub(super) broken: Vec<Window>,
    /// Held while the node process is replaced: only then it is known which versions that interrupts.
    pub(super) replacing: RwLock<()>,
    pub(super) progress: Progress,
    pub(super) tally: Tally,
    failure: Mutex<Option<String>>,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) bytes: AtomicU64,
    pub(super) excused: AtomicU64,
    pub(super) not_offered: AtomicU64,
    longest_micros: AtomicU64,
}

impl Tally {
    /// An operation took so long.
    pub(super) fn took(&self, time: Duration) {
        self.longest_micros.fetch_max(time.as_micros() as u64, Relaxed);
    }

    pub(super) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_micros.load(Relaxed))
    }
}

/// A sight of the windows before an operation.
#[derive(Clone, Copy)]
pub(super) struct Look {
    away: u64,
    broken: u64,
}

impl World {
    pub(super) fn new(versions: Vec<Version>, datasets: Vec<usize>, targets: Vec<PathBuf>, operations: u64) -> Self {
        let broken = (0..=datasets.iter().copied().max().unwrap_or(0)).map(|_| Window::default()).collect();
        let targets = targets.into_iter().map(|path| Target { path, shown: RwLock::default() }).collect();
        Self {
            versions,
            datasets,
            targets,
            away: Window::default(),
            broken,
            replacing: RwLock::default(),
            progress: Progress::new(operations),
            tally: Tally::default(),
            failure: Mutex::default(),
        }
    }

    /// Looks before an operation on a version.
    pub(super) fn look(&self, version: usize) -> Look {
        Look { away: self.away.look(), broken: self.broken[self.datasets[version]].look() }
    }

    /// Whether an error of an operation that began with `look` was to be expected.
    pub(super) fn excuses(&self, look: Look, version: usize, error: &io::Error) -> bool {
        let was_open =
            || self.broken[self.datasets[version]].was_open_since(look.broken) || self.away.was_open_since(look.away);
        let excused = error.raw_os_error() == Some(libc::EIO)
            && (was_open() || {
                drop(self.replacing.read());
                was_open()
            });
        self.tally.excused.fetch_add(u64::from(excused), Relaxed);
        excused
    }

    /// Readers of this version may have seen errors while the node process was replaced.
    pub(super) fn interrupted(&self, version: &str) {
        let of = (0..self.versions.len()).find(|nth| self.versions[*nth].manifest.version == version);
        if let Some(window) = of.map(|nth| &self.broken[self.datasets[nth]]) {
            window.open();
            window.close();
        }
    }

    /// Ends the run: something is wrong.
    pub(super) fn fail(&self, what: String) {
        self.failure.lock().get_or_insert(what);
        self.progress.stop();
    }

    /// What was wrong first.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}
