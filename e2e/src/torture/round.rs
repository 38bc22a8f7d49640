//! One run of one seed: readers at work, acts at their counts, and at the end nothing may be wrong or left.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::check::check_all;
use super::count::{Counter, Counts, entries};
use super::disk::TinyDisk;
use super::lab::{Lab, Version};
use super::model::{Model, Pattern, Shape};
use super::node::{Node, Outcome, Starting};
use super::plan::{self, Act, Scene};
use super::reader::Reader;
use super::world::World;
use crate::memory_group::Group;

const MIB: u64 = 1 << 20;
/// The caches: one that takes everything, one that has to evict, one on a disk that gets full.
const POOLS: [(&str, Option<u64>); 3] = [("roomy", Some(128 * MIB)), ("tight", Some(12 * MIB)), ("tiny", None)];
/// Length of the tiny cache's disk.
const DISK_BYTES: u64 = 24 * MIB;
/// The datasets: what each looks like, and which cache it is in.
const DATASETS: [(&str, usize, Shape); 4] = [
    ("small", 0, Shape { files: 320, largest: 20_000, crowd: 260 }),
    ("large", 1, Shape { files: 6, largest: 6 << 20, crowd: 0 }),
    ("mixed", 2, Shape { files: 40, largest: 2 << 20, crowd: 10 }),
    ("other", 0, Shape { files: 30, largest: 3 << 20, crowd: 0 }),
];
/// Targets, which are fewer than versions.
const TARGETS: usize = 6;
/// What the node process may have of memory, its page cache included.
const MEMORY: u64 = 256 * MIB;
/// Descriptors that a cache has for each blob.
const FILES_OF_A_BLOB: usize = 2;
/// No operation may take longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long readers are given to come to a count while no process serves: those that wait do not come to it.
const AWAY: Duration = Duration::from_millis(50);

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Operations of all readers together.
    pub operations: u64,
    /// Threads that read.
    pub readers: u64,
}

/// What a run has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Operations that ended.
    pub operations: u64,
    /// Bytes that were compared.
    pub bytes: u64,
    /// Times the node process was killed.
    pub kills: u64,
    /// Errors that readers saw while nobody served or a source was broken for good.
    pub excused: u64,
    /// Reads by ways that the kernel does not offer for the layout.
    pub not_offered: u64,
    /// The longest operation.
    pub longest: Duration,
}

struct Round<'a> {
    lab: &'a Lab,
    starting: Starting,
    world: &'a World,
    disk: TinyDisk,
    kills: u64,
}

/// Runs the seed; `program` has the node process's command. With a keeper, readers must not notice that it is killed.
pub fn run(program: &Path, seed: u64, size: Size, with_keeper: bool) -> Result<Summary> {
    let mut rng = StdRng::seed_from_u64(seed);
    let lab = Lab::new(program)?;
    let disk = TinyDisk::new(lab.tiny_filesystem(DISK_BYTES)?);
    let mut starting = Starting::new(program, &lab, &POOLS);
    starting.group = Some(Group::make(MEMORY)?);
    if let Some(pool) = starting.setup.pools.get_mut("tiny") {
        pool.dir = lab.dir().join("tiny/cache");
    }
    if with_keeper {
        starting.keep(&lab)?;
    }
    let (versions, datasets) = versions(&lab, &mut rng, seed)?;
    let targets: Vec<PathBuf> = (0..TARGETS).map(|nth| lab.target(&nth.to_string())).collect();
    let world = World::new(versions, datasets, targets, size.operations);
    let scene = Scene { datasets: DATASETS.len(), pools: POOLS.len(), targets: TARGETS, operations: size.operations };
    let acts = plan::draw(&mut rng, scene);
    let mut round = Round { lab: &lab, starting, world: &world, disk, kills: 0 };
    let result = round.run(&mut rng, &acts, size.readers);
    let starting = &round.starting;
    result.and_then(|()| starting.check_log()).with_context(|| format!("its log ends:\n{}", starting.last_words()))?;
    let tally = &world.tally;
    Ok(Summary {
        operations: world.progress.ended(),
        bytes: tally.bytes.load(Relaxed),
        kills: round.kills,
        excused: tally.excused.load(Relaxed),
        not_offered: tally.not_offered.load(Relaxed),
        longest: tally.longest(),
    })
}

/// Two versions of each dataset, and the number of the dataset of each.
fn versions(lab: &Lab, rng: &mut StdRng, seed: u64) -> Result<(Vec<Version>, Vec<usize>)> {
    let pattern = Pattern::new(seed, 8 << 20);
    let (mut versions, mut datasets) = (Vec::new(), Vec::new());
    for (nth, (name, pool, shape)) in DATASETS.into_iter().enumerate() {
        let (pool, model) = (POOLS[pool].0, Model::random(rng, &pattern, shape));
        let next = model.successor(rng, &pattern, shape);
        let first = lab.version(name, &format!("{name}-1"), pool, model, None)?;
        let second = lab.version(name, &format!("{name}-2"), pool, next, Some(&first))?;
        versions.extend([first, second]);
        datasets.extend([nth, nth]);
    }
    Ok((versions, datasets))
}

impl Round<'_> {
    fn run(&mut self, rng: &mut StdRng, acts: &[(u64, Act)], readers: u64) -> Result<()> {
        let counter = Counter::new(self.lab)?;
        let mut node = self.starting.start()?;
        let mut before = counter.take(&node)?;
        // A cache keeps the files of its blobs open.
        *before.entry("descriptors").or_default() += FILES_OF_A_BLOB * DATASETS.len();
        for target in 0..TARGETS {
            let version = rng.random_range(0..self.world.versions.len());
            self.show(&mut node, target, Some(version))?;
        }
        let seeds: Vec<u64> = (0..readers).map(|_| rng.random()).collect();
        let world = self.world;
        let acted = std::thread::scope(|scope| {
            for seed in seeds {
                scope.spawn(move || Reader::new(world, seed).run());
            }
            let acted = self.act_all(&mut node, acts);
            if let Err(error) = &acted {
                world.fail(format!("{error:#}"));
                // Reads that hang fail when nobody serves: else this would wait for them for ever.
                let _ = node.kill();
                self.starting.keeper = None;
            }
            acted
        });
        if let Some(failure) = world.failure() {
            bail!("{failure}");
        }
        acted?;
        self.finish(node, &counter, before)
    }

    fn act_all(&mut self, node: &mut Node, acts: &[(u64, Act)]) -> Result<()> {
        for (at, act) in acts {
            self.wait(*at)?;
            if self.world.progress.is_stopped() {
                return Ok(());
            }
            self.act(node, act).with_context(|| format!("{act:?} at operation {at}"))?;
        }
        self.wait(u64::MAX)
    }

    fn wait(&self, count: u64) -> Result<()> {
        if self.world.progress.wait(count, PATIENCE) {
            return Ok(());
        }
        bail!("for {PATIENCE:?} no operation has ended")
    }

    fn act(&mut self, node: &mut Node, act: &Act) -> Result<()> {
        let name = |dataset: usize| DATASETS[dataset].0;
        match *act {
            Act::Kill(operations) => {
                self.kills += 1;
                let wait = |round: &Self| round.world.progress.wait(round.world.progress.ended() + operations, AWAY);
                self.replace(node, self.starting.keeper.is_none(), |round, node| {
                    node.kill()?;
                    wait(round);
                    Ok(())
                })?;
            }
            Act::KillBoth => {
                self.kills += 1;
                self.replace(node, true, |round, node| {
                    node.kill()?;
                    if round.starting.keeper.is_some() { round.starting.keep(round.lab) } else { Ok(()) }
                })?;
            }
            Act::Restart => self.replace(node, self.starting.keeper.is_none(), |_, node| node.stop())?,
            Act::Limit(pool, mib) => node.limit(POOLS[pool].0, mib * MIB)?.done()?,
            Act::DropPages => std::fs::write("/proc/sys/vm/drop_caches", "1").context("dropping the page cache")?,
            Act::Reclaim => self.starting.group.iter().for_each(Group::reclaim),
            Act::Disturb(dataset, fault, requests) => self.lab.origin.disturb(name(dataset), fault, requests)?,
            Act::BreakDown(dataset, fault) => {
                self.world.broken[dataset].open();
                self.lab.origin.break_down(name(dataset), fault)?;
            }
            Act::Heal(dataset) => {
                self.lab.origin.heal(name(dataset))?;
                // Who joined a request that was answered before is told so a moment later.
                self.world.progress.wait(self.world.progress.ended() + 50, PATIENCE);
                self.world.broken[dataset].close();
            }
            Act::Swap(target, share) => {
                let version = share.map(|share| (share * self.world.versions.len() as f64) as usize);
                self.show(node, target, version)?;
            }
            Act::Fill(percent) => self.disk.fill(percent)?,
            Act::Free => self.disk.free()?,
        }
        Ok(())
    }

    /// Ends the process by `end`, and starts another one. `visibly`: readers may see errors in between.
    fn replace(
        &mut self,
        node: &mut Node,
        visibly: bool,
        end: impl FnOnce(&mut Self, &mut Node) -> Result<()>,
    ) -> Result<()> {
        let world = self.world;
        let _replacing = world.replacing.write();
        if visibly {
            world.away.open();
        }
        end(self, node)?;
        // A cache on a disk that is full cannot be opened.
        self.disk.free()?;
        *node = self.starting.start()?;
        node.interrupted().iter().for_each(|version| world.interrupted(version));
        if visibly {
            world.away.close();
        }
        Ok(())
    }

    /// Shows another version at a target, when nobody reads there.
    fn show(&mut self, node: &mut Node, target: usize, version: Option<usize>) -> Result<()> {
        self.disk.free()?;
        let volume = format!("volume-{target}");
        let place = &self.world.targets[target];
        let mut shown = place.shown.write();
        if shown.version.is_some() {
            node.unpublish(&volume, &place.path)?.done()?;
            shown.version = None;
        }
        shown.generation += 1;
        if let Some(version) = version {
            node.publish(&volume, &place.path, &self.world.versions[version])?.done()?;
            shown.version = Some(version);
        }
        Ok(())
    }

    /// Everything is in order again: all must be readable, and when all is unmounted, nothing may be left.
    fn finish(&mut self, mut node: Node, counter: &Counter, before: Counts) -> Result<()> {
        for (nth, (name, ..)) in DATASETS.into_iter().enumerate() {
            self.lab.origin.heal(name)?;
            // Closed windows stay closed.
            if self.world.broken[nth].look() % 2 == 1 {
                self.world.broken[nth].close();
            }
        }
        self.disk.free()?;
        for target in &self.world.targets {
            let version = target.shown.read().version;
            if let Some(version) = version {
                check_all(&target.path, &self.world.versions[version].model)
                    .with_context(|| format!("at the end, {}", target.path.display()))?;
            }
        }
        for target in 0..TARGETS {
            self.show(&mut node, target, None)?;
        }
        counter.expect(&node, &before)?;
        let blobs: usize =
            self.starting.setup.pools.values().map(|pool| entries(&pool.dir.join("blobs"))).sum::<Result<_>>()?;
        if blobs > DATASETS.len() {
            bail!("{blobs} blobs have directories in the caches, of {} datasets", DATASETS.len());
        }
        match node.limit("roomy", 5 * MIB)? {
            Outcome::Done => node.stop(),
            other => Err(anyhow!("a cache that nobody uses takes no new limit: {other:?}")),
        }
    }
}
