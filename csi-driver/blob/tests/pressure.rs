//! More datasets and readers than there is room, or requests, for.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use futures::future::join_all;
use granary_blob::{Blob, BlobTag, Pool, Shares};
use granary_image::PartRanges;
use parking_lot::Mutex;
use support::*;

/// More reads than those of one visit have between them.
const A_WHILE: usize = 1100;

fn dataset(name: &str) -> BlobTag {
    BlobTag { dataset_uid: name.to_owned(), namespace: "vision".to_owned(), name: name.to_owned() }
}

/// The blob of a dataset: one object of whole parts.
fn whole(pool: &Arc<Pool>, name: &str, parts: u64) -> (Arc<TestOrigin>, Arc<Blob>) {
    let origin = TestOrigin::new();
    (origin.clone(), pool.blob(dataset(name), table(name, &[(name, parts * MIB)]), origin).expect("blob"))
}

/// Reads a blob once, part by part.
async fn pass(blob: &Arc<Blob>) {
    for part in 0..blob.len() / MIB {
        check(blob, part * MIB, MIB as usize).await;
    }
}

/// Others read something for a while.
async fn a_while(pool: &Arc<Pool>) {
    let (_, blob) = whole(pool, "elsewhere", 1);
    for _ in 0..A_WHILE {
        check(&blob, 0, 10).await;
    }
}

#[tokio::test]
async fn one_pass_over_a_large_dataset_does_not_push_out_what_is_used_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = open(config(dir.path(), Some(16 * MIB))).await;
    let (of_used, used) = whole(&pool, "used", 5);
    let (_, large) = whole(&pool, "large", 100);
    pass(&used).await;
    a_while(&pool).await;
    pass(&used).await;
    assert_eq!(of_used.count(), 5);
    pass(&large).await;
    assert!(check_cached(&used, 0, 5 * MIB as usize), "it was used twice, and the other once");
    // While it goes on, too, and for a dataset that was read only once before.
    let (of_next, next) = whole(&pool, "next", 3);
    pass(&next).await;
    for part in 0..100 {
        check(&large, part * MIB, MIB as usize).await;
        if part % 5 == 4 {
            pass(&next).await;
        }
    }
    pass(&used).await;
    assert_eq!((of_used.count(), of_next.count()), (5, 3));
}

#[tokio::test]
async fn what_is_used_no_more_makes_room_for_what_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = open(config(dir.path(), Some(16 * MIB))).await;
    let (_, old) = whole(&pool, "old", 12);
    pass(&old).await;
    a_while(&pool).await;
    pass(&old).await;
    let (origin, new) = whole(&pool, "new", 12);
    for _ in 0..4 {
        pass(&new).await;
    }
    let before = origin.count();
    pass(&new).await;
    assert_eq!(origin.count(), before, "all of it is cached");
}

/// A pool of 20 MiB of which 14 MiB are read natively, by two versions; counts how often they are asked to give theirs back.
async fn mostly_native(dir: &Path) -> (Arc<Pool>, Arc<AtomicUsize>, Arc<Mutex<Vec<granary_blob::PartsHold>>>) {
    let pool = open(config(dir, Some(20 * MIB))).await;
    let (_, native) = whole(&pool, "native", 14);
    pass(&native).await;
    native.flush().await;
    let hold = |parts| native.hold(&Arc::new(PartRanges::from_iter([parts]))).expect("held");
    let held = Arc::new(Mutex::new(vec![hold(0..7), hold(7..14)]));
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, holds) = (asked.clone(), held.clone());
    pool.set_give_back(move || {
        counter.fetch_add(1, SeqCst);
        holds.lock().pop().is_some()
    });
    (pool, asked, held)
}

#[tokio::test]
async fn beside_native_versions_a_newcomer_that_is_used_again_gets_the_room_of_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (pool, asked, held) = mostly_native(dir.path()).await;
    let (origin, newcomer) = whole(&pool, "newcomer", 8);
    for _ in 0..4 {
        pass(&newcomer).await;
    }
    assert_eq!((asked.load(SeqCst), held.lock().len()), (1, 1));
    let before = origin.count();
    for _ in 0..3 {
        pass(&newcomer).await;
    }
    assert_eq!(origin.count(), before, "it does not evict itself any more");
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test]
async fn beside_native_versions_a_newcomer_that_passes_gets_by() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (pool, asked, _held) = mostly_native(dir.path()).await;
    let (origin, newcomer) = whole(&pool, "newcomer", 100);
    pass(&newcomer).await;
    assert_eq!((asked.load(SeqCst), origin.count()), (0, 100));
}

/// Bytes on the disk of each file of the blobs.
fn on_disk(dir: &Path) -> BTreeMap<std::path::PathBuf, u64> {
    let blobs = std::fs::read_dir(dir.join("cache/blobs")).expect("blobs");
    let files = blobs.flat_map(|blob| {
        let dir = blob.expect("blob").path();
        [dir.join("data"), dir.join("parts")]
    });
    files.filter_map(|file| Some((file.clone(), std::fs::metadata(file).ok()?.blocks() * 512))).collect()
}

/// Keeps the most that all files ever had on the disk together.
fn watch(dir: &Path, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<(u64, usize)> {
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let (mut most, mut looks) = (0, 0);
        loop {
            let stopped = stop.load(SeqCst);
            // Twice: what moves from one file to another in between would be counted in both.
            let files = on_disk(&dir);
            if files == on_disk(&dir) {
                most = files.values().sum::<u64>().max(most);
                looks += 1;
            }
            if stopped {
                return (most, looks);
            }
            std::thread::yield_now();
        }
    })
}

/// As the kernel reads: what is cached at once, and from what it reads is learned what to fetch ahead.
async fn read(blob: &Arc<Blob>, offset: u64, len: usize) {
    if !check_cached(blob, offset, len) {
        check(blob, offset, len).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_holds_at_every_moment_with_many_datasets_and_readers() {
    const DATASETS: u64 = 6;
    let dir = tempfile::tempdir().expect("temporary directory");
    let limit = 24 * MIB;
    let pool = open(config(dir.path(), Some(limit))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let watch = watch(dir.path(), stop.clone());
    let readers = (0..DATASETS).flat_map(|n| {
        let name = format!("set{n}");
        let small: Vec<String> = (0..40).map(|file| format!("{name}/{file}")).collect();
        let mut objects: Vec<_> = small.iter().map(|key| (key.as_str(), 1 + n * 11_111)).collect();
        objects.push((&name, 9 * MIB + n));
        let blob = pool.blob(dataset(&name), table(&name, &objects), TestOrigin::new()).expect("blob");
        (0..3u64).map(move |reader| {
            let blob = blob.clone();
            tokio::spawn(async move {
                let step = 300_000 + 100_000 * reader;
                for offset in (0..blob.len()).step_by(step as usize) {
                    read(&blob, offset, step.min(blob.len() - offset) as usize).await;
                }
            })
        })
    });
    for reader in join_all(readers.collect::<Vec<_>>()).await {
        reader.expect("reader");
    }
    pool.flush().await;
    stop.store(true, SeqCst);
    let (most, looks) = watch.join().expect("watch");
    assert!(looks > 10, "{looks} looks");
    assert!((limit / 2..=limit).contains(&most), "{most} bytes on the disk");
}

/// Fails where a test would wait for ever.
async fn not_stuck<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), work).await.expect("it waits for others")
}

#[tokio::test]
async fn datasets_whose_sources_are_stuck_leave_requests_to_others() {
    const STUCK: usize = 20;
    let dir = tempfile::tempdir().expect("temporary directory");
    let shares = Shares::default();
    let pool = |name: &str| {
        let config = config(&dir.path().join(name), None);
        std::fs::create_dir_all(config.dir.parent().expect("parent")).expect("create");
        Pool::open_claimed(config, &[], shares.clone()).expect("open").0
    };
    // All pools of a node share.
    let pools = [pool("one"), pool("two")];
    let keys: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let objects: Vec<_> = keys.iter().map(|key| (key.as_str(), 4096)).collect();
    let open = |name: &str, pool: &Arc<Pool>| {
        let origin = TestOrigin::new();
        (origin.clone(), pool.blob(dataset(name), table(name, &objects), origin).expect("blob"))
    };
    let mut tasks = Vec::new();
    for n in 0..STUCK {
        let (origin, blob) = open(&format!("stuck{n}"), &pools[n % 2]);
        origin.close_gate();
        tasks.push(tokio::spawn(async move { check(&blob, 0, 100 * 4096).await }));
        let asked_twice = async {
            while origin.count() < 2 {
                origin.asked.notified().await;
            }
        };
        not_stuck(asked_twice).await;
    }
    let (origin, blob) = open("next", &pools[0]);
    not_stuck(check(&blob, 0, 100 * 4096)).await;
    assert_eq!(origin.count(), 100);
    assert!(tasks.iter().all(|task| !task.is_finished()));
    tasks.iter().for_each(|task| task.abort());
}
