//! What is compared: the disk, Granary, and peers with the cache settings that their own documents recommend.

mod goofys;
mod granary;
mod juicefs;
mod mounted;
mod native;
mod raw;
mod rclone;
mod s3fs;

use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::data::Dataset;
use super::limit::Group;
use super::rows::{Row, State, Task};
use super::task::{Deadline, Outcome};
use crate::paths::Paths;

pub(super) use mounted::{Mounted, Starting, clear};

/// Where a system is mounted, and what it may have.
pub(super) struct Place<'a> {
    /// The benchmark's own directory.
    pub(super) dir: &'a Path,
    /// The directory of this run on this system, with its caches; empty at first.
    pub(super) work: &'a Path,
    pub(super) dataset: Dataset,
    /// The port of the source.
    pub(super) port: u16,
    /// The memory cgroup of serving processes.
    pub(super) group: Option<&'a Group>,
    /// It was mounted here before, and nobody asks whether the source has changed since.
    pub(super) known: bool,
}

/// A way to see the bucket's objects as files.
pub(super) trait System {
    fn name(&self) -> &'static str;

    /// Whether the row makes sense for it, besides what is true of all.
    fn can(&self, row: &Row) -> bool;

    /// Whether the serving process of a killed run takes over what it left mounted.
    fn adopts(&self) -> bool {
        false
    }

    /// Once for each data set, before anything is measured.
    fn prepare(&self, _place: &Place) -> Result<()> {
        Ok(())
    }

    /// Mounts what `place` says.
    fn mount(&self, place: &Place) -> Result<Mounted>;

    /// Waits until a mount whose data set is complete is served as fast as it ever will be.
    fn settle(&self, _place: &Place) -> Result<()> {
        Ok(())
    }

    /// In which of its ways the mount is served, where there are several.
    fn layout(&self, _place: &Place) -> Option<&'static str> {
        None
    }

    /// Whether it does the row's task in a way of its own, without a mount.
    fn does_itself(&self, _row: &Row) -> bool {
        false
    }

    /// Does a task in its own way.
    fn own_task(&self, row: &Row, _place: &Place, _deadline: Deadline) -> Result<Outcome> {
        bail!("{} has no way of its own for {}", self.name(), row.name)
    }
}

/// Names of the systems, as the command line and the table have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SystemName {
    /// The disk's own filesystem: what ratios are to.
    Native,
    /// A client without a filesystem: what the network gives.
    Raw,
    /// This project's `granary mount`.
    Granary,
    /// `rclone mount`.
    Rclone,
    /// `s3fs`.
    S3fs,
    /// `goofys`.
    Goofys,
    /// `juicefs mount`.
    Juicefs,
}

impl SystemName {
    /// The name that tables have.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Native => native::NAME,
            Self::Raw => raw::NAME,
            Self::Granary => granary::NAME,
            Self::Rclone => rclone::NAME,
            Self::S3fs => s3fs::NAME,
            Self::Goofys => goofys::NAME,
            Self::Juicefs => juicefs::NAME,
        }
    }

    /// Whether marks compare Granary with it.
    pub(super) fn is_peer(self) -> bool {
        !matches!(self, Self::Native | Self::Raw | Self::Granary)
    }

    /// Installs what it needs; `granary` is the program of that system, which is built without it.
    pub(super) fn install(self, paths: &Paths, granary: Option<&Path>) -> Result<Box<dyn System>> {
        Ok(match self {
            Self::Native => Box::new(native::Native),
            Self::Raw => Box::new(raw::Raw),
            Self::Granary => Box::new(granary::Granary::install(paths, granary)?),
            Self::Rclone => Box::new(rclone::Rclone::install(paths)?),
            Self::S3fs => Box::new(s3fs::S3fs),
            Self::Goofys => Box::new(goofys::Goofys::install(paths)?),
            Self::Juicefs => Box::new(juicefs::JuiceFs::install(paths)?),
        })
    }
}

/// What peers are measured in: everything but what only Granary promises and what would take them too long.
fn peer_can(row: &Row) -> bool {
    let only_granary = row.limited || row.state == State::Switched || row.task == Task::CopyThenMap;
    !only_granary && !matches!(row.dataset, Dataset::Million | Dataset::Many)
}

/// For systems that are no mounts of a process.
fn never_mounted(name: &str) -> Result<Mounted> {
    bail!("{name} is not mounted")
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    #[test]
    fn every_row_has_native_or_says_why() {
        let native = native::Native;
        for row in rows::all() {
            let expected = !row.limited && !matches!(row.task, Task::Mount | Task::CopyThenMap);
            assert_eq!(native.can(&row), expected, "{}", row.name);
        }
    }
}
