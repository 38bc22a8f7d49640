//! Carrying out a task on a directory.

mod epoch;
mod files;
mod map;
mod range;
mod walk;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::data::Dataset;
use super::rows::Task;

pub(super) use epoch::Loader;
pub(super) use map::map as map_file;

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// Bytes that the reader got.
    pub(super) bytes: u64,
    /// Files, reads or entries.
    pub(super) count: u64,
    /// Percent of the wall time that an accelerator computed; only of an epoch.
    pub(super) percent: f64,
    /// Time that it took, if not from the begin of the measurement to its end.
    pub(super) seconds: Option<f64>,
}

/// When reading has to end, finished or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

impl Task {
    /// Whether it reads the whole data set, given the time.
    pub(super) fn reads_all(self) -> bool {
        matches!(self, Self::Sequential { .. } | Self::Files { .. } | Self::Map { all: true } | Self::Epoch(_))
    }

    /// Whether it reads contents of files.
    pub(super) fn reads_data(self) -> bool {
        !matches!(self, Self::Find | Self::List | Self::StatAll | Self::Mount)
    }

    /// What fills a cache with all of `dataset`.
    pub(super) fn filling(dataset: Dataset) -> Self {
        match dataset {
            Dataset::Big | Dataset::Model => Self::Sequential { readers: 1 },
            _ => Self::Files { readers: 8 },
        }
    }

    /// Does it below `dir`, which holds `dataset`.
    pub(super) fn run(self, dataset: Dataset, dir: &Path, loader: &Loader, deadline: Deadline) -> Result<Outcome> {
        let first =
            || Ok::<_, anyhow::Error>(dataset.files(dir).into_iter().next().context("a data set has a file")?.0);
        match self {
            Self::Sequential { readers } => range::sequential(&first()?, readers, deadline),
            Self::Random { block, reads } => range::random(&first()?, block, reads, deadline),
            Self::FirstByte => range::first_byte(&first()?),
            Self::Files { readers } => files::read(&dataset.files(dir), readers, deadline),
            Self::Map { all } => map::map(&first()?, all),
            Self::Find => walk::find(dir),
            Self::List => walk::list(dir),
            Self::StatAll => walk::stat_all(&dataset.files(dir)),
            Self::Mount => Ok(Outcome::default()),
            Self::Epoch(number) => loader.epoch(dir, number),
            Self::CopyThenMap => anyhow::bail!("copying first is a system's own task"),
        }
    }
}

/// Runs `work` on `count` threads, each with its number, and adds up what they did.
fn on_threads(count: usize, work: impl Fn(usize) -> Result<Outcome> + Sync) -> Result<Outcome> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().try_fold(Outcome::default(), |sum, thread| {
            let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(Outcome { bytes: sum.bytes + done.bytes, count: sum.count + done.count, ..sum })
        })
    })
}
