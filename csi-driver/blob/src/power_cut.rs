//! Power cuts at any moment of a cache's life: of what was changed since it was last synced, the disk has any of it, sector by
//! sector and name by name. The cache is opened on that, and must serve no byte that was not written, and still have every part
//! that was durable. A seed that failed is printed; `GRANARY_SEED` replays it.

mod remains;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use granary_image::{ExtentTable, PartRanges, TableBuilder};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use self::remains::{Dice, Past, Remains};
use crate::disk::record::Recorder;
use crate::tests::support::*;
use crate::{Blob, Pool, PoolConfig};

/// Cuts that are looked at of each run of steps, beside those right after a flush.
const CUTS: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Of so many bytes at a share of the blob's length.
    Read(f64, usize),
    Flush,
    Evict(u64),
    /// Ends in order, and starts again.
    Close,
    /// Ends in no order.
    Kill,
    /// A new version has more objects.
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0.0..1.0, 1usize..200_000).prop_map(|(at, len)| Step::Read(at, len)),
        4 => Just(Step::Flush),
        2 => (1u64..200_000).prop_map(Step::Evict),
        2 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => Just(Step::Grow),
    ]
}

/// The blob before and after it has grown.
struct Tables {
    first: ExtentTable,
    grown: ExtentTable,
}

impl Tables {
    fn new(sizes: &[u64]) -> Self {
        let keys: Vec<String> = (0..sizes.len()).map(|n| n.to_string()).collect();
        let objects: Vec<_> = keys.iter().map(String::as_str).zip(sizes.iter().copied()).collect();
        let (first, more) = objects.split_at(objects.len().div_ceil(2));
        let first = table("b", first);
        let mut builder = TableBuilder::extending(&first);
        more.iter().for_each(|(key, size)| {
            builder.allocate(&object(key, *size)).expect("allocate");
        });
        Self { grown: built(builder), first }
    }
}

/// A cache whose changes are recorded.
struct World<'a> {
    root: tempfile::TempDir,
    recorder: Arc<Recorder>,
    /// Changes that made what was there at first.
    base: usize,
    tables: &'a Tables,
    is_grown: bool,
    origin: Arc<TestOrigin>,
    open: Option<(Arc<Pool>, Arc<Blob>)>,
}

impl<'a> World<'a> {
    async fn on(remains: &Remains, tables: &'a Tables, is_grown: bool) -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let recorder = Recorder::start(root.path());
        remains.write(root.path());
        let base = recorder.len();
        let mut world = Self { root, recorder, base, tables, is_grown, origin: TestOrigin::new(), open: None };
        world.open().await;
        world
    }

    fn config(&self) -> PoolConfig {
        config(self.root.path(), None)
    }

    fn table(&self) -> &ExtentTable {
        if self.is_grown { &self.tables.grown } else { &self.tables.first }
    }

    async fn open(&mut self) {
        self.open = None;
        let pool = open(self.config()).await;
        let blob = pool.blob(tag(), self.table().clone(), self.origin.clone()).expect("blob");
        self.open = Some((pool, blob));
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.open.as_ref().expect("open").0
    }

    fn blob(&self) -> &Arc<Blob> {
        &self.open.as_ref().expect("open").1
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Read(at, len) => {
                let all = self.table().blob_bytes();
                let offset = (at * all as f64) as u64;
                check(self.blob(), offset, len.min((all - offset) as usize)).await;
            }
            Step::Flush => self.pool().flush().await,
            Step::Evict(bytes) => {
                self.pool().evict(bytes).await;
            }
            Step::Close => {
                self.pool().close().await;
                self.open().await;
            }
            Step::Kill => self.open().await,
            Step::Grow => {
                self.is_grown = true;
                let grown = self.tables.grown.clone();
                self.pool().blob(tag(), grown, self.origin.clone()).expect("grown");
            }
        }
    }

    /// Parts that the cache says would survive now.
    fn durable(&self) -> BTreeSet<u64> {
        (0..self.table().part_count()).filter(|part| self.blob().hold(&one(*part)).is_ok()).collect()
    }

    fn past(&self) -> Past {
        Past { root: self.root.path().to_path_buf(), changes: self.recorder.changes() }
    }

    /// Whatever may be read of what is here is right, and `durable` parts are here.
    async fn check(&self, durable: &BTreeSet<u64>) {
        let blob = self.blob();
        for number in 0..self.table().part_count() {
            let part = self.table().part(number);
            if blob.hold(&one(number)).is_ok() {
                // The kernel may be given it as it is.
                let mut found = vec![0; part.len as usize];
                blob.data_file().read_exact_at(&mut found, part.blob_offset).expect("read");
                assert!(found == expected(self.table(), part.blob_offset, found.len()), "part {number} of the file");
            }
            check_cached(blob, part.blob_offset, part.len as usize);
        }
        for number in 0..self.table().part_count() {
            let part = self.table().part(number);
            check(blob, part.blob_offset, part.len as usize).await;
        }
        let asked = self.origin.requests.lock();
        for number in durable.iter().filter(|&&number| number < self.table().part_count()) {
            let part = self.table().part(*number);
            let key = self.table().extent(part.extent).key.to_owned();
            let lost = asked.iter().any(|(of, range)| *of == key && range.contains(&part.object_offset));
            assert!(!lost, "part {number} was durable, and is fetched again");
        }
    }
}

fn one(part: u64) -> Arc<PartRanges> {
    Arc::new(std::iter::once(part..part + 1).collect())
}

/// Takes the steps; then the power goes at some moments, and at one of them it comes back.
async fn run(world: World<'_>, steps: &[Step], dice: &mut Dice) -> (Remains, bool) {
    let mut world = world;
    let mut cuts = Vec::new();
    for step in steps {
        world.step(*step).await;
        if matches!(step, Step::Flush | Step::Close) {
            let now = world.recorder.len();
            let (claimed, past) = (world.durable(), world.past());
            let map = past.durable_parts(now, &map_path(world.root.path()));
            assert!(claimed.is_subset(&map), "{claimed:?} are said to be durable, and {map:?} are");
            cuts.push(now);
        }
    }
    let past = world.past();
    let after_base = (past.changes.len() - world.base) as u64;
    cuts.extend((0..CUTS).map(|_| world.base + dice.below(after_base + 1) as usize));
    for &cut in &cuts {
        let durable = past.durable_parts(cut, &map_path(world.root.path()));
        let remains = past.cut(cut, dice);
        let is_grown = world.is_grown || dice.below(2) == 0;
        let mut after = World::on(&remains, world.tables, is_grown).await;
        if dice.below(2) == 0 {
            // What is wrong must not come to be trusted.
            after.step(Step::Close).await;
        }
        after.check(&durable).await;
    }
    let cut = cuts[dice.below(cuts.len() as u64) as usize];
    (past.cut(cut, dice), world.is_grown)
}

fn map_path(root: &Path) -> PathBuf {
    root.join("cache/blobs/b/parts")
}

fn lives(sizes: &[u64], lives: &[Vec<Step>], seed: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        let (tables, mut dice) = (Tables::new(sizes), Dice::new(seed));
        let (mut remains, mut is_grown) = (Remains::default(), false);
        for steps in lives {
            let world = World::on(&remains, &tables, is_grown).await;
            (remains, is_grown) = run(world, steps, &mut dice).await;
        }
    });
}

fn proptest_config() -> ProptestConfig {
    let fresh = || RandomState::new().hash_one(0);
    let seed = std::env::var("GRANARY_SEED").ok().map_or_else(fresh, |seed| seed.parse().expect("a number"));
    eprintln!("GRANARY_SEED={seed}");
    ProptestConfig {
        cases: 24,
        max_shrink_iters: 100,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Default::default()
    }
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1u64..12_000, 1 => Just(4096), 1 => 1u64..MIB + 100_000]
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn a_power_cut_loses_nothing_durable_and_invents_nothing(
        sizes in vec(size(), 2..60),
        steps in vec(vec(step(), 1..12), 1..3),
        seed in any::<u64>(),
    ) {
        lives(&sizes, &steps, seed);
    }
}
