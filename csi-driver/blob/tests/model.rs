//! Any sequence of reads, failing origins, evictions, flushes, restarts and crashes: right bytes or an error that some origin
//! gave, and never more on the disk than the limit.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::join_all;
use granary_blob::{Blob, Pool, PoolConfig, ReadError};
use granary_image::ExtentTable;
use proptest::collection::vec;
use proptest::prelude::*;
use support::*;

#[derive(Clone, Debug)]
enum Step {
    /// Reads at once, at shares of the blob's length.
    Read(Vec<(f64, usize)>),
    Cached(f64, usize),
    Fault(usize, Option<Fault>),
    Limit(u64),
    Flush,
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![
        Just(Fault::Changed),
        Just(Fault::Unavailable),
        Just(Fault::Short),
        Just(Fault::Long),
        Just(Fault::Breaks)
    ];
    let place = || (0.0..1.0, 0usize..2_500_000);
    prop_oneof![
        8 => vec(place(), 1..5).prop_map(Step::Read),
        4 => place().prop_map(|(at, len)| Step::Cached(at, len)),
        2 => (0usize..12, fault).prop_map(|(n, fault)| Step::Fault(n, Some(fault))),
        2 => (0usize..12).prop_map(|n| Step::Fault(n, None)),
        1 => (5u64..12).prop_map(|mib| Step::Limit(mib * MIB)),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..10_000, Just(4096), Just(MIB), 1u64..3 * MIB]
}

struct World {
    root: tempfile::TempDir,
    generation: u32,
    table: ExtentTable,
    origin: Arc<TestOrigin>,
    config: PoolConfig,
    /// The limit that nothing on the disk may exceed: the last one, or while a lower one is new, that before.
    limit: u64,
    open: Option<(Arc<Pool>, Arc<Blob>)>,
}

impl World {
    async fn new(sizes: &[u64]) -> Self {
        let keys: Vec<String> = (0..sizes.len()).map(|n| n.to_string()).collect();
        let objects: Vec<_> = keys.iter().map(String::as_str).zip(sizes.iter().copied()).collect();
        let root = tempfile::tempdir().expect("temporary directory");
        let config = config(root.path(), Some(6 * MIB));
        let (table, origin) = (table("b", &objects), TestOrigin::new());
        let mut world = Self { root, generation: 0, table, origin, config, limit: 6 * MIB, open: None };
        world.open().await;
        world
    }

    async fn open(&mut self) {
        let pool = open(self.config.clone()).await;
        let blob = pool.blob(tag(), self.table.clone(), self.origin.clone()).expect("blob");
        self.open = Some((pool, blob));
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.open.as_ref().expect("open").0
    }

    fn blob(&self) -> &Arc<Blob> {
        &self.open.as_ref().expect("open").1
    }

    fn range(&self, at: f64, len: usize) -> (u64, usize) {
        let blob_bytes = self.table.blob_bytes();
        let offset = (at * blob_bytes as f64) as u64;
        (offset, len.min((blob_bytes - offset) as usize))
    }

    fn is_faulty(&self, key: &str) -> bool {
        self.origin.faults.lock().contains_key(key)
    }

    async fn read(&self, (offset, len): (u64, usize)) {
        let mut buf = vec![0xAA; len];
        match self.blob().read(offset, &mut buf).await {
            Ok(()) => assert!(buf == expected(&self.table, offset, len), "bytes at {offset}+{len}"),
            Err(ReadError::Origin { key, .. }) => {
                assert!(self.is_faulty(&key), "object {key} has no fault");
                let at = (offset..offset + len as u64).step_by(4096).chain([offset + len as u64 - 1]);
                assert!(at.filter_map(|n| self.table.at(n)).any(|e| e.key == key), "object {key} was not asked for");
            }
            Err(other) => panic!("{other}"),
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Read(reads) => {
                join_all(reads.iter().map(|(at, len)| self.read(self.range(*at, *len)))).await;
            }
            Step::Cached(at, len) => {
                let (offset, len) = self.range(at, len);
                check_cached(self.blob(), offset, len);
            }
            Step::Fault(n, fault) => self.origin.fault(&n.to_string(), fault),
            Step::Limit(bytes) => {
                self.config.max_bytes = Some(bytes);
                self.limit = self.limit.max(bytes);
                self.pool().reconfigure(&self.config).expect("reconfigure");
            }
            Step::Flush => self.pool().flush().await,
            Step::Restart => {
                self.open = None;
                self.open().await;
            }
            Step::Crash => {
                self.generation += 1;
                let next: PathBuf = self.root.path().join(format!("crash{}", self.generation));
                copy_state(&self.config.dir, &next);
                self.open = None;
                self.config.dir = next;
                self.open().await;
            }
        }
        let on_disk = allocated(&self.config, "b");
        assert!(on_disk <= self.limit, "{on_disk} bytes on the disk");
        let used = self.pool().usage().used_bytes;
        assert!(on_disk <= used, "{on_disk} bytes on the disk, {used} counted");
    }
}

fn run(sizes: &[u64], steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    runtime.block_on(async {
        let mut world = World::new(sizes).await;
        for step in steps {
            world.step(step).await;
        }
        world.origin.faults.lock().clear();
        let mut at = 0;
        while at < world.table.blob_bytes() {
            let len = (world.table.blob_bytes() - at).min(MIB / 2);
            check(world.blob(), at, len as usize).await;
            at += len;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn right_bytes_or_an_error(sizes in vec(size(), 1..12), steps in vec(step(), 1..30)) {
        run(&sizes, steps);
    }
}
