//! Bits that change on the disk, below a cache that is open.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use granary_image::{ExtentTable, PartRanges};
use tokio::time::Instant;

use crate::tests::support::*;
use crate::{Blob, Pool, ScrubStats, Unready};

/// Parts 0 and 1 are of the first object, 2 of the second, 3 to 5 of the third.
const OBJECTS: [(&str, u64); 3] = [("a", 2 * MIB), ("b", 5000), ("c", 2 * MIB + 5)];
/// Of all objects, in whole blocks.
const ALL: u64 = 4 * MIB + 8192 + 4096;

struct Cached {
    dir: tempfile::TempDir,
    table: ExtentTable,
    origin: Arc<TestOrigin>,
    pool: Arc<Pool>,
    blob: Arc<Blob>,
}

impl Cached {
    /// All of the objects are in the cache, durably.
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (table, origin) = (table("b", &OBJECTS), TestOrigin::new());
        let pool = open(config(dir.path(), None)).await;
        let blob = pool.blob(tag(), table.clone(), origin.clone()).expect("blob");
        check(&blob, 0, blob.len() as usize).await;
        pool.flush().await;
        origin.requests.lock().clear();
        Self { dir, table, origin, pool, blob }
    }

    /// The next process, after a kill or an orderly end.
    async fn again(self) -> Self {
        let Self { dir, table, origin, pool, blob } = self;
        drop((blob, pool));
        let pool = open(config(dir.path(), None)).await;
        let blob = pool.blob(tag(), table.clone(), origin.clone()).expect("blob");
        Self { dir, table, origin, pool, blob }
    }

    fn flip(&self, at: u64) {
        flip(self.dir.path(), at);
    }

    /// A pass that begins after this was called, and what all passes so far have found.
    async fn pass(&self) -> ScrubStats {
        let mut passes = self.pool.scrub.passes.subscribe();
        let before = *passes.borrow_and_update();
        self.pool.set_scrub_rate(u64::MAX);
        passes.wait_for(|passes| *passes > before).await.expect("the pool is open");
        self.pool.scrub_stats()
    }

    /// Whether a part has the right bytes on the disk, as who reads natively gets them.
    fn is_right(&self, part: u64) -> bool {
        let part = self.table.part(part);
        let mut found = vec![0; part.len as usize];
        self.blob.data_file().read_exact_at(&mut found, part.blob_offset).expect("read");
        found == expected(&self.table, part.blob_offset, found.len())
    }
}

fn flip(dir: &Path, at: u64) {
    let data = OpenOptions::new().read(true).write(true).open(dir.join("cache/blobs/b/data")).expect("open");
    let mut byte = [0];
    data.read_exact_at(&mut byte, at).expect("read");
    data.write_all_at(&[byte[0] ^ 0x10], at).expect("write");
}

fn parts(start: u64, end: u64) -> Arc<PartRanges> {
    Arc::new(std::iter::once(start..end).collect())
}

#[tokio::test]
async fn a_flipped_bit_is_found_and_its_part_is_fetched_again() {
    let cached = Cached::new().await;
    let sound = cached.pass().await;
    assert_eq!(sound, ScrubStats { checked_bytes: ALL, passes: 1, ..ScrubStats::default() });
    cached.flip(MIB + 77);
    let found = cached.pass().await;
    assert_eq!((found.damaged_parts, found.repaired_parts, found.passes), (1, 0, 2));
    assert_eq!(cached.blob.cached_bytes(), ALL - MIB, "the part was dropped");
    assert!(!check_cached(&cached.blob, MIB, 10) && cached.origin.count() == 0);
    check(&cached.blob, 0, cached.blob.len() as usize).await;
    assert_eq!(*cached.origin.requests.lock(), [("a".to_owned(), MIB..2 * MIB)]);
    cached.pool.flush().await;
    assert_eq!(cached.pass().await, ScrubStats { checked_bytes: 3 * ALL, passes: 3, ..found });
    assert!((0..6).all(|part| cached.is_right(part)));
}

#[tokio::test]
async fn what_is_read_natively_is_repaired_in_place() {
    let cached = Cached::new().await;
    let hold = cached.blob.hold(&parts(0, 6)).expect("all is there");
    cached.flip(MIB + 77);
    cached.flip(ALL - 4096 + 3);
    assert!(!cached.is_right(1) && !cached.is_right(5));
    let found = cached.pass().await;
    assert_eq!((found.damaged_parts, found.repaired_parts), (2, 2));
    assert!((0..6).all(|part| cached.is_right(part)));
    let mut asked = cached.origin.requests.lock().clone();
    asked.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(asked, [("a".to_owned(), MIB..2 * MIB), ("c".to_owned(), 2 * MIB..2 * MIB + 5)]);
    assert!(cached.blob.is_of(&hold) && cached.blob.cached_bytes() == ALL, "nothing was dropped");
    cached.blob.hold(&parts(0, 6)).expect("all is sound");
    check(&cached.blob, 0, cached.blob.len() as usize).await;
    assert_eq!(cached.origin.count(), 2);
}

/// Time is the runtime's, and goes on when nothing else does.
#[tokio::test(start_paused = true)]
async fn a_repair_waits_for_the_source_and_nobody_who_asks_gets_the_damage() {
    let cached = Cached::new().await;
    let _hold = cached.blob.hold(&parts(0, 6)).expect("all is there");
    cached.flip(MIB + 77);
    cached.origin.fault("a", Some(Fault::Unavailable));
    let found = cached.pass().await;
    assert_eq!((found.damaged_parts, found.repaired_parts), (1, 0));
    assert_eq!(cached.blob.hold(&parts(1, 2)).err(), Some(Unready::Unverified));
    let mut buf = vec![0; 10];
    cached.blob.read(MIB + 70, &mut buf).await.expect_err("damaged, and the source is gone");
    check(&cached.blob, 0, MIB as usize).await;
    cached.origin.fault("a", None);
    while cached.pool.scrub_stats().repaired_parts == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(cached.is_right(1));
    assert_eq!(cached.pool.scrub_stats().damaged_parts, 1, "counted once");
    check(&cached.blob, 0, cached.blob.len() as usize).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_is_read_than_the_rate_allows() {
    let cached = Cached::new().await;
    let mut passes = cached.pool.scrub.passes.subscribe();
    let start = Instant::now();
    cached.pool.set_scrub_rate(MIB);
    passes.wait_for(|passes| *passes == 1).await.expect("the pool is open");
    // The part that is last does not wait for its own time.
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?} for {ALL} bytes", start.elapsed());
    passes.wait_for(|passes| *passes == 2).await.expect("the pool is open");
    assert!(start.elapsed() >= super::PASS, "the next pass has time");
    cached.pool.set_scrub_rate(0);
    let checked = cached.pool.scrub_stats().checked_bytes;
    tokio::time::sleep(3 * super::PASS).await;
    assert_eq!(cached.pool.scrub_stats().checked_bytes, checked);
}

#[tokio::test]
async fn what_nobody_has_checked_is_not_trusted_after_an_orderly_end() {
    for is_checked in [false, true] {
        let cached = Cached::new().await.again().await;
        if is_checked {
            assert_eq!(cached.pass().await.damaged_parts, 0);
        } else {
            cached.flip(MIB + 77);
        }
        cached.pool.close().await;
        let cached = cached.again().await;
        match cached.blob.hold(&parts(0, 6)) {
            Ok(_) => assert!(is_checked),
            Err(why) => assert_eq!((why, is_checked), (Unready::Unverified, false)),
        }
        check(&cached.blob, 0, cached.blob.len() as usize).await;
        assert_eq!(cached.pool.scrub_stats().damaged_parts, u64::from(!is_checked), "found before it was read");
    }
}

#[tokio::test]
async fn nothing_is_written_in_place_after_the_end() {
    let cached = Cached::new().await;
    let _hold = cached.blob.hold(&parts(0, 6)).expect("all is there");
    assert_eq!(cached.pass().await.passes, 1);
    cached.pool.close().await;
    cached.flip(MIB + 77);
    let mut unmended = super::Unmended::default();
    unmended.mend(&cached.pool, &cached.blob.store, 1).await;
    assert!(unmended.next_try().is_some());
    assert!(!cached.is_right(1) && cached.pool.scrub_stats().repaired_parts == 0);
}

/// Also of a blob whose table nobody has brought yet.
#[tokio::test]
async fn what_nobody_has_open_is_checked_too() {
    let Cached { dir, table, origin, pool, blob } = Cached::new().await;
    pool.close().await;
    drop((blob, pool));
    flip(dir.path(), 3 * MIB);
    let pool = open(config(dir.path(), None)).await;
    let mut passes = pool.scrub.passes.subscribe();
    pool.set_scrub_rate(u64::MAX);
    passes.wait_for(|passes| *passes == 1).await.expect("the pool is open");
    assert_eq!(pool.scrub_stats().damaged_parts, 1);
    let blob = pool.blob(tag(), table, origin.clone()).expect("blob");
    assert_eq!(blob.cached_bytes(), ALL - MIB);
    check(&blob, 0, blob.len() as usize).await;
    assert_eq!(origin.count(), 1);
}

/// Its work ends with the pool, whose directory is free for the next one then.
#[tokio::test]
async fn it_keeps_no_pool_from_ending() {
    let cached = Cached::new().await;
    cached.pool.set_scrub_rate(1);
    let cached = cached.again().await;
    assert_eq!(cached.pass().await.passes, 1);
}
