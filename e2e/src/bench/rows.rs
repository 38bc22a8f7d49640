//! What is measured: a data set, read in one way, in one state of the caches, over one link.

use serde::{Deserialize, Serialize};

use super::data::Dataset;

/// How it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// The big object from start to end; several readers have equal shares.
    Sequential { readers: u64 },
    /// Blocks at random places of the big object, by eight threads, the same places in every run.
    Random { block: usize, reads: usize },
    /// Every file once, whole, in order; each reader takes the next.
    Files { readers: usize },
    /// The first 4 KiB of the big object.
    FirstByte,
    /// One byte of each page of a mapped model, or of its first page only.
    Map { all: bool },
    /// The model copied to the disk first, then mapped.
    CopyThenMap,
    /// `find`, `ls -lR`, or a stat of each file.
    Find,
    /// See [`Task::Find`].
    List,
    /// See [`Task::Find`].
    StatAll,
    /// Nothing: mounting itself is measured.
    Mount,
    /// One epoch of a training's loader in shuffled order.
    Epoch(u32),
}

/// What the caches have when the measurement begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing, neither on disk nor in memory; freshly mounted.
    Cold,
    /// As `Cold`, but not mounted: mounting is part of what is measured.
    Unmounted,
    /// Everything, right after it was read on the same mount.
    Again,
    /// Everything on disk, nothing in memory: unmounted, the page cache dropped, mounted again.
    Remounted,
    /// As `Remounted`, but mounting is part of what is measured.
    Known,
    /// As `Remounted`, but the serving process was killed.
    Restarted,
    /// Everything on disk, nothing in memory, on the mount that it was read through: after the live switch, where there is one.
    Switched,
}

/// How the source is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Link {
    /// Loopback as it is.
    Direct,
    /// Loopback with latency and a bandwidth cap.
    Slow,
}

/// What the figures of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    /// Bytes a second.
    Bytes,
    /// Files, reads or entries a second.
    Count,
    /// Seconds that it took: less is better.
    Seconds,
    /// Percent of the wall time that the accelerator computed.
    Percent,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) dataset: Dataset,
    pub(super) task: Task,
    pub(super) state: State,
    pub(super) link: Link,
    /// The serving process is in a memory cgroup of the chart's limit.
    pub(super) limited: bool,
}

impl Row {
    pub(super) fn unit(&self) -> Unit {
        match self.task {
            Task::Sequential { .. } => Unit::Bytes,
            Task::Random { .. } | Task::Files { .. } | Task::Find | Task::List | Task::StatAll => Unit::Count,
            Task::FirstByte | Task::Map { .. } | Task::CopyThenMap | Task::Mount => Unit::Seconds,
            Task::Epoch(_) => Unit::Percent,
        }
    }

    /// Rows of one group are measured one after the other on one mount where they can be.
    pub(super) fn group(&self) -> (Dataset, Link, bool) {
        (self.dataset, self.link, self.limited)
    }
}

/// Names that marks refer to.
pub(super) mod names {
    pub(in super::super) const COLD_1: &str = "2 GiB, 1 reader, cold";
    pub(in super::super) const COLD_8: &str = "2 GiB, 8 readers, cold";
    pub(in super::super) const AT_MOUNT: &str = "2 GiB, 1 reader, complete at mount";
    pub(in super::super) const SWITCHED: &str = "2 GiB, 1 reader, after a live switch";
    pub(in super::super) const RANDOM_4K: &str = "random 4 KiB, complete at mount";
    pub(in super::super) const FIRST_BYTE: &str = "first byte, cold";
    pub(in super::super) const SMALL_COLD_8: &str = "20,000 x 100 KB, 8 readers, cold";
    pub(in super::super) const SMALL_REMOUNT: &str = "20,000 x 100 KB, 8 readers, after remount";
    pub(in super::super) const MANY: &str = "50,000 x 100 KB, 8 readers, complete at mount";
    pub(in super::super) const FIND: &str = "1,000,000 files, find";
    pub(in super::super) const LIST: &str = "1,000,000 files, ls -lR";
    pub(in super::super) const STAT: &str = "1,000,000 files, stat of each";
    pub(in super::super) const KNOWN_MOUNT: &str = "1,000,000 files, mount, once indexed";
    pub(in super::super) const EPOCH_2: &str = "shuffled epoch 2 of a loader";
    /// Behind the name of a row over the slow link.
    pub(in super::super) const SLOW: &str = ", slow link";
    /// Behind the name of a row in a memory cgroup.
    pub(in super::super) const LIMITED: &str = ", in the chart's memory limit";
}

/// All rows, those of a group together, in the order that they are measured in.
pub(super) fn all() -> Vec<Row> {
    use State::*;
    let random = |block, reads| Task::Random { block, reads };
    let (direct, slow) = (Link::Direct, Link::Slow);
    let row = |name: &str, dataset, task, state| Row {
        name: name.to_owned(),
        dataset,
        task,
        state,
        link: direct,
        limited: false,
    };
    let big = |name, task, state| row(name, Dataset::Big, task, state);
    let small = |name, readers, state| row(name, Dataset::Small, Task::Files { readers }, state);
    let (whole, shares) = (Task::Sequential { readers: 1 }, Task::Sequential { readers: 8 });
    let mut rows = vec![
        big(names::COLD_1, whole, Cold),
        big("2 GiB, 1 reader, again", whole, Again),
        big(names::SWITCHED, whole, Switched),
        big("random 4 KiB, after a live switch", random(4 << 10, 20_000), Switched),
        big("random 128 KiB, after a live switch", random(128 << 10, 4000), Switched),
        big(names::AT_MOUNT, whole, Remounted),
        big(names::RANDOM_4K, random(4 << 10, 20_000), Remounted),
        big("random 128 KiB, complete at mount", random(128 << 10, 4000), Remounted),
        big("2 GiB, 1 reader, after restart", whole, Restarted),
        big(names::COLD_8, shares, Cold),
        big("random 128 KiB, cold", random(128 << 10, 1000), Cold),
        big(names::FIRST_BYTE, Task::FirstByte, Cold),
        small(names::SMALL_COLD_8, 8, Cold),
        small("20,000 x 100 KB, 8 readers, again", 8, Again),
        small(names::SMALL_REMOUNT, 8, Remounted),
        small("20,000 x 100 KB, 8 readers, after restart", 8, Restarted),
        small("20,000 x 100 KB, 1 reader, cold", 1, Cold),
        small("20,000 x 100 KB, 32 readers, cold", 32, Cold),
        row("model, start to first byte", Dataset::Model, Task::Map { all: false }, Unmounted),
        row("model, start to last byte", Dataset::Model, Task::Map { all: true }, Unmounted),
        row("model, copied first, to last byte", Dataset::Model, Task::CopyThenMap, Unmounted),
        row("shuffled epoch 1 of a loader", Dataset::Images, Task::Epoch(1), Cold),
        row(names::EPOCH_2, Dataset::Images, Task::Epoch(2), Again),
    ];
    // Every cold row again over the slow link, and those that a training waits for in the chart's memory.
    let again = |rows: &[Row], suffix: &str, change: fn(&mut Row)| -> Vec<Row> {
        let cold = rows.iter().filter(|row| matches!(row.state, Cold | Unmounted)).cloned();
        let renamed = cold.map(|mut row| {
            row.name += suffix;
            change(&mut row);
            row
        });
        renamed.collect()
    };
    let slow_rows = again(&rows, names::SLOW, |row| row.link = Link::Slow);
    let mut limited = again(&rows, names::LIMITED, |row| row.limited = true);
    limited.retain(|row| matches!(row.task, Task::Sequential { .. } | Task::Files { readers: 8 }));
    debug_assert!(slow_rows.iter().all(|row| row.link == slow));
    rows.extend(slow_rows);
    rows.extend(limited);
    rows.push(row(names::MANY, Dataset::Many, Task::Files { readers: 8 }, Remounted));
    let million = |name, task, state| row(name, Dataset::Million, task, state);
    rows.extend([
        million("1,000,000 files, first mount with listing", Task::Mount, Unmounted),
        million(names::FIND, Task::Find, Remounted),
        million(names::LIST, Task::List, Remounted),
        million(names::STAT, Task::StatAll, Remounted),
        million(names::KNOWN_MOUNT, Task::Mount, Known),
    ]);
    rows
}

/// The rows whose name has one of `wanted` in it; all for none.
pub(super) fn select(rows: Vec<Row>, wanted: &[String], links: &[Link]) -> Vec<Row> {
    let named = |row: &Row| wanted.is_empty() || wanted.iter().any(|part| row.name.contains(part.as_str()));
    rows.into_iter().filter(|row| named(row) && links.contains(&row.link)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_groups_are_together() {
        let rows = all();
        let mut seen = std::collections::HashSet::new();
        assert!(rows.iter().all(|row| seen.insert(row.name.clone())), "a name is there twice");
        let mut groups: Vec<_> = rows.iter().map(Row::group).collect();
        groups.dedup();
        let mut distinct = groups.clone();
        distinct.sort_by_key(|group| format!("{group:?}"));
        distinct.dedup();
        assert_eq!(groups.len(), distinct.len());
    }

    #[test]
    fn every_cold_row_is_there_over_the_slow_link() {
        let rows = all();
        let cold = rows.iter().filter(|row| row.state == State::Cold && row.link == Link::Direct && !row.limited);
        for row in cold {
            assert!(rows.iter().any(|other| other.name == format!("{}{}", row.name, names::SLOW)), "{}", row.name);
        }
    }

    #[test]
    fn rows_are_chosen_by_a_part_of_their_name_and_by_link() {
        let chosen = select(all(), &["first byte, cold".into()], &[Link::Slow]);
        assert_eq!(chosen.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["first byte, cold, slow link"]);
        assert_eq!(select(all(), &[], &[Link::Direct, Link::Slow]).len(), all().len());
    }
}
