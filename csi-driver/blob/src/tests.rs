//! Tests that need what the crate hides: a filesystem's free space, and the bound of the buffers.

mod full;
#[path = "../tests/support/mod.rs"]
pub(crate) mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use futures::future::join_all;
use granary_image::ExtentTable;

use self::support::*;
use crate::budget::Space;
use crate::layout::Layout;
use crate::share::Share;
use crate::{Blob, Pool, PoolConfig, Shares, maintain};

/// A pool on a filesystem of 100 MiB, of which `others` bytes are taken by others.
fn on_small_filesystem(config: PoolConfig, others: Arc<AtomicU64>) -> Arc<Pool> {
    on_small_filesystem_with(config, others, Shares::default())
}

fn on_small_filesystem_with(config: PoolConfig, others: Arc<AtomicU64>, shares: Shares) -> Arc<Pool> {
    let layout = Layout::open(&config.dir).expect("layout");
    let data = config.clone();
    let probe = move || {
        let ours = if data.dir.join("blobs/b/data").exists() { allocated(&data, "b") } else { 0 };
        Ok(Space { total: 100 * MIB, available: (100 * MIB).saturating_sub(others.load(SeqCst) + ours) })
    };
    Pool::open_with(config, layout, Box::new(probe), shares).expect("open")
}

/// Keeps the largest size that the data file ever had on the disk.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Watch {
    fn start(config: &PoolConfig) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (config, stopped) = (config.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(SeqCst) {
                most = most.max(allocated(&config, "b"));
                std::thread::yield_now();
            }
            most.max(allocated(&config, "b"))
        });
        Self { stop, thread }
    }

    fn most(self) -> u64 {
        self.stop.store(true, SeqCst);
        self.thread.join().expect("watch")
    }
}

fn parts_table(count: u64) -> ExtentTable {
    table("b", &[("a", count * MIB)])
}

async fn read_all(blob: &Arc<Blob>) {
    let parts = blob.len() / MIB;
    let readers = (0..4).map(|n| {
        let blob = blob.clone();
        tokio::spawn(async move {
            for at in (n..parts).step_by(4) {
                check(&blob, at * MIB, MIB as usize).await;
            }
        })
    });
    for reader in join_all(readers).await {
        reader.expect("reader");
    }
}

fn floor(dir: &Path, percent: u8) -> PoolConfig {
    PoolConfig { min_free_percent: percent, ..config(dir, None) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_holds_at_every_moment() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(dir.path(), Some(8 * MIB));
    let pool = Pool::open(config.clone()).expect("open");
    let blob = pool.blob(tag(), parts_table(40), TestOrigin::new()).expect("blob");
    let watch = Watch::start(&config);
    read_all(&blob).await;
    pool.flush().await;
    read_all(&blob).await;
    let most = watch.most();
    assert!((4 * MIB..=8 * MIB).contains(&most), "{most} bytes on the disk");
    assert!(blob.cached_bytes() >= 4 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_floor_holds_and_others_may_fill_the_disk() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = floor(dir.path(), 20);
    let others = Arc::new(AtomicU64::new(70 * MIB));
    let pool = on_small_filesystem(config.clone(), others.clone());
    let blob = pool.blob(tag(), parts_table(30), TestOrigin::new()).expect("blob");
    let watch = Watch::start(&config);
    read_all(&blob).await;
    let most = watch.most();
    assert!((5 * MIB..=10 * MIB).contains(&most), "{most} bytes on the disk");
    others.store(75 * MIB, SeqCst);
    maintain::keep_limits(&pool).await;
    assert!(allocated(&config, "b") <= 5 * MIB);
    read_all(&blob).await;
    assert!(allocated(&config, "b") <= 5 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_parts_are_served_from_bounded_buffers() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = floor(dir.path(), 20);
    // Room for three parts at a time, which more readers of more parts each share.
    let buffers = Share::new(3 * 256, 0);
    let shares = Shares::with_units(Share::new(16, 0), buffers.clone());
    let pool = on_small_filesystem_with(config.clone(), Arc::new(AtomicU64::new(85 * MIB)), shares);
    let origin = TestOrigin::new();
    let blob = pool.blob(tag(), parts_table(24), origin.clone()).expect("blob");
    let readers = (0..8).map(|n| {
        let blob = blob.clone();
        tokio::spawn(async move { check(&blob, n * 3 * MIB / 2, 8 * MIB as usize).await })
    });
    for reader in join_all(readers).await {
        reader.expect("reader");
    }
    assert_eq!((allocated(&config, "b"), blob.cached_bytes()), (0, 0));
    assert_eq!(buffers.free(), 3 * 256);
    assert_eq!(blob.stats().uncached_bytes, blob.stats().source_bytes);
    let before = origin.count();
    check(&blob, 0, 10).await;
    assert_eq!(origin.count(), before + 1);
}

#[tokio::test]
async fn the_least_recently_used_part_makes_room() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = Pool::open(config(dir.path(), Some(5 * MIB))).expect("open");
    let blob = pool.blob(tag(), parts_table(6), TestOrigin::new()).expect("blob");
    for part in 0..4 {
        check(&blob, part * MIB, 10).await;
    }
    assert!(check_cached(&blob, 0, 10));
    check(&blob, 4 * MIB, 10).await;
    let present: Vec<_> = (0..6).filter(|part| check_cached(&blob, part * MIB, 10)).collect();
    assert_eq!(present, [0, 2, 3, 4]);
}

#[tokio::test]
async fn what_nobody_has_open_makes_room_part_by_part_and_is_removed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(dir.path(), Some(6 * MIB));
    let pool = Pool::open(config.clone()).expect("open");
    let blob = pool.blob(tag(), parts_table(3), TestOrigin::new()).expect("blob");
    check(&blob, 0, 3 * MIB as usize).await;
    pool.flush().await;
    drop((blob, pool));
    let pool = open(config.clone()).await;
    let other = pool.blob(tag(), table("c", &[("x", 5 * MIB)]), TestOrigin::new()).expect("blob");
    let cached = |pool: &Arc<Pool>| pool.blobs().iter().find(|b| b.blob_id == "b").map(|b| b.cached_bytes / MIB);
    for (part, left) in [(0, 3), (1, 3), (2, 2), (3, 1), (4, 0)] {
        check(&other, part * MIB, 10).await;
        assert_eq!(cached(&pool), Some(left), "after part {part}");
        assert_eq!(allocated(&config, "b"), left * MIB);
    }
    maintain::keep_limits(&pool).await;
    assert_eq!(cached(&pool), None);
    assert!(!config.dir.join("blobs/b").exists());
    check(&other, 0, 5 * MIB as usize).await;
}

#[tokio::test]
async fn a_lower_limit_evicts() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut config = config(dir.path(), None);
    let pool = Pool::open(config.clone()).expect("open");
    let blob = pool.blob(tag(), parts_table(10), TestOrigin::new()).expect("blob");
    check(&blob, 0, 10 * MIB as usize).await;
    config.max_bytes = Some(5 * MIB);
    pool.reconfigure(&config).expect("reconfigure");
    maintain::keep_limits(&pool).await;
    assert!(allocated(&config, "b") <= 5 * MIB);
    let usage = pool.usage();
    assert!(usage.limit_bytes == 5 * MIB && usage.used_bytes <= 5 * MIB, "{usage:?}");
    config.dir = dir.path().join("other");
    pool.reconfigure(&config).expect_err("another directory");
}

#[tokio::test]
async fn an_unflushed_part_may_be_evicted_and_a_refilled_one_flushed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(dir.path(), Some(4 * MIB));
    let origin = TestOrigin::new();
    let pool = Pool::open(config.clone()).expect("open");
    let blob = pool.blob(tag(), parts_table(6), origin.clone()).expect("blob");
    for round in 0..3 {
        for part in 0..6 {
            check(&blob, part * MIB, 10).await;
        }
        if round == 1 {
            pool.flush().await;
        }
    }
    pool.flush().await;
    let present: Vec<_> = (0..6).filter(|part| check_cached(&blob, part * MIB, 10)).collect();
    drop((blob, pool));
    let pool = open(config.clone()).await;
    let blob = pool.blob(tag(), parts_table(6), origin.clone()).expect("blob");
    assert_eq!(blob.cached_bytes(), present.len() as u64 * MIB);
    let before = origin.count();
    for &part in &present {
        check(&blob, part * MIB, MIB as usize).await;
    }
    assert_eq!(origin.count(), before);
}
