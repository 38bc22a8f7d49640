//! Parts that are held for who reads the data file itself.

mod support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use granary_blob::{Claim, Pool, Shares, Unready};
use granary_image::{ExtentTable, PartRanges};
use parking_lot::Mutex;
use support::*;

/// Parts 0, 1 and 2 are of the first object, 3 of the second, 4 and 5 of the third.
fn objects() -> ExtentTable {
    table("b", &[("a", 2 * MIB + 5), ("b", 5000), ("c", 2 * MIB)])
}

fn parts(ranges: &[(u64, u64)]) -> Arc<PartRanges> {
    Arc::new(ranges.iter().map(|&(start, end)| start..end).collect())
}

fn bytes_of(file: &File, table: &ExtentTable, part: u64) -> bool {
    let part = table.part(part);
    let mut found = vec![0; part.len as usize];
    file.read_exact_at(&mut found, part.blob_offset).expect("read");
    found == expected(table, part.blob_offset, found.len())
}

#[tokio::test]
async fn only_what_survives_a_crash_is_held() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = open(config(dir.path(), None)).await;
    let blob = pool.blob(tag(), objects(), TestOrigin::new()).expect("blob");
    let some = parts(&[(1, 3), (5, 6)]);
    assert!(blob.missing(&some));
    check(&blob, MIB, (MIB + 5) as usize).await;
    assert_eq!((blob.missing(&some), blob.hold(&some).err()), (true, Some(Unready::Absent)));
    check(&blob, blob.len() - 1, 1).await;
    assert_eq!((blob.missing(&some), blob.hold(&some).err()), (false, Some(Unready::NotDurable)));
    let mut durable = blob.durable();
    blob.flush().await;
    assert!(durable.has_changed().expect("the blob is there"));
    durable.mark_unchanged();
    let hold = blob.hold(&some).expect("durable");
    assert_eq!(hold.bytes(), 2 * MIB + 4096);
    assert!(blob.is_of(&hold) && !durable.has_changed().expect("the blob is there"));
    assert!([1, 2, 5].into_iter().all(|part| bytes_of(blob.data_file(), &objects(), part)));
    assert_eq!(blob.hold(&parts(&[(0, 6)])).err(), Some(Unready::Absent));
    blob.hold(&parts(&[])).expect("nothing is always there");
}

#[tokio::test]
async fn held_parts_stay_and_are_asked_back_last() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = open(config(dir.path(), Some(6 * MIB))).await;
    let table = table("b", &[("a", 4 * MIB)]);
    let blob = pool.blob(tag(), table.clone(), TestOrigin::new()).expect("blob");
    check(&blob, 0, 4 * MIB as usize).await;
    blob.flush().await;
    let held = Arc::new(Mutex::new(vec![blob.hold(&parts(&[(0, 3)])).expect("held")]));
    let asked = Arc::new(AtomicUsize::new(0));
    pool.set_give_back({
        let (held, asked) = (held.clone(), asked.clone());
        move || {
            asked.fetch_add(1, SeqCst);
            held.lock().pop().is_some()
        }
    });
    let other = pool.blob(tag(), support::table("c", &[("x", 12 * MIB)]), TestOrigin::new()).expect("blob");
    for part in 0..3 {
        check(&other, part * MIB, 10).await;
    }
    assert_eq!(asked.load(SeqCst), 0, "the part that nobody holds and the other's own made room");
    assert!(check_cached(&blob, 0, 3 * MIB as usize) && !check_cached(&blob, 3 * MIB, 10));
    let hold = blob.hold(&parts(&[(0, 1)])).expect("held");
    // All of the pool is held: nothing makes room but what is given back.
    other.flush().await;
    let rest: Vec<_> = (0..12).filter_map(|part| other.hold(&parts(&[(part, part + 1)])).ok()).collect();
    check(&other, 11 * MIB, 10).await;
    assert!(asked.load(SeqCst) > 0 && held.lock().is_empty());
    drop(rest);
    check(&other, 0, 12 * MIB as usize).await;
    assert!(check_cached(&blob, 0, MIB as usize) && !check_cached(&blob, MIB, 10) && !check_cached(&blob, 2 * MIB, 10));
    drop(hold);
    for _ in 0..2 {
        check(&other, 0, 12 * MIB as usize).await;
    }
    assert!(!check_cached(&blob, 0, 10));
}

/// Leaves a pool with all of [`objects`]; `closed` in an orderly way.
async fn left(dir: &std::path::Path, closed: bool) {
    let pool = open(config(dir, None)).await;
    let blob = pool.blob(tag(), objects(), TestOrigin::new()).expect("blob");
    check(&blob, 0, blob.len() as usize).await;
    if closed {
        pool.close().await;
    } else {
        pool.flush().await;
    }
}

fn flip(dir: &std::path::Path, name: &str, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(dir.join("cache/blobs/b").join(name)).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x40], at).expect("write");
}

#[tokio::test]
async fn what_an_orderly_end_left_is_trusted_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    left(dir.path(), true).await;
    let pool = open(config(dir.path(), None)).await;
    let blob = pool.blob(tag(), objects(), TestOrigin::new()).expect("blob");
    blob.hold(&parts(&[(0, 6)])).expect("trusted");
    drop((blob, pool));
    let pool = open(config(dir.path(), None)).await;
    let blob = pool.blob(tag(), objects(), TestOrigin::new()).expect("blob");
    assert_eq!(blob.hold(&parts(&[(0, 6)])).err(), Some(Unready::Unverified), "the process before left in no order");
}

#[tokio::test]
async fn what_a_killed_process_left_is_checked() {
    let dir = tempfile::tempdir().expect("temporary directory");
    left(dir.path(), false).await;
    flip(dir.path(), "data", 4 * MIB);
    let pool = open(config(dir.path(), None)).await;
    let origin = TestOrigin::new();
    let blob = pool.blob(tag(), objects(), origin.clone()).expect("blob");
    let (sound, all) = (parts(&[(0, 4)]), parts(&[(0, 6)]));
    assert_eq!(blob.hold(&sound).err(), Some(Unready::Unverified));
    assert!(blob.verify(&sound).await);
    blob.hold(&sound).expect("checked");
    assert!(!blob.verify(&all).await, "a bit was changed");
    assert_eq!(blob.hold(&all).err(), Some(Unready::Absent));
    check(&blob, 0, blob.len() as usize).await;
    assert_eq!(origin.count(), 1);
    blob.flush().await;
    assert!(blob.verify(&all).await);
    blob.hold(&all).expect("whole again");
}

#[tokio::test]
async fn what_is_claimed_is_held_from_the_start() {
    let dir = tempfile::tempdir().expect("temporary directory");
    left(dir.path(), false).await;
    let claim = |ranges| Claim { blob_id: "b".to_owned(), parts: Some(parts(ranges)) };
    let elsewhere = Claim { blob_id: "other".to_owned(), parts: None };
    let small = config(dir.path(), Some(5 * MIB));
    let claims = [claim(&[(0, 2)]), elsewhere, claim(&[(1, 3)])];
    let (pool, holds) = Pool::open_claimed(small, &claims, Shares::default()).expect("open");
    assert_eq!(holds.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    let other = pool.blob(tag(), table("c", &[("x", 12 * MIB)]), TestOrigin::new()).expect("blob");
    check(&other, 0, 12 * MIB as usize).await;
    let blob = pool.blob(tag(), objects(), TestOrigin::new()).expect("blob");
    assert!(holds.iter().flatten().all(|hold| blob.is_of(hold)));
    assert!((0..3).all(|part| bytes_of(blob.data_file(), &objects(), part)));
    assert!(blob.missing(&parts(&[(3, 6)])), "what nobody claims made room");
}

/// Also not what the map does not know, which is freed otherwise.
#[tokio::test]
async fn nothing_is_freed_below_a_claim_that_the_map_does_not_know() {
    for (ranges, damage) in [(Some(parts(&[(0, 6)])), true), (None, false)] {
        let dir = tempfile::tempdir().expect("temporary directory");
        left(dir.path(), false).await;
        if damage {
            flip(dir.path(), "parts", 512 + 16 + 8);
        }
        let reader = File::open(dir.path().join("cache/blobs/b/data")).expect("open");
        let claims = [Claim { blob_id: "b".to_owned(), parts: ranges }];
        let (pool, holds) =
            Pool::open_claimed(config(dir.path(), Some(5 * MIB)), &claims, Shares::default()).expect("open");
        assert!(holds[0].is_none());
        let origin = TestOrigin::new();
        let blob = pool.blob(tag(), objects(), origin.clone()).expect("blob");
        assert_eq!(blob.cached_bytes(), 0);
        check(&blob, 0, blob.len() as usize).await;
        pool.flush().await;
        assert!(origin.count() > 0);
        assert!((0..6).all(|part| bytes_of(&reader, &objects(), part)), "the old file is as it was");
    }
}

#[tokio::test]
async fn a_kept_hold_lasts_as_long_as_the_pool() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = open(config(dir.path(), Some(6 * MIB))).await;
    let blob = pool.blob(tag(), objects(), TestOrigin::new()).expect("blob");
    check(&blob, 0, 2 * MIB as usize).await;
    blob.flush().await;
    blob.hold(&parts(&[(0, 2)])).expect("held").keep();
    let other = pool.blob(tag(), table("c", &[("x", 12 * MIB)]), TestOrigin::new()).expect("blob");
    check(&other, 0, 12 * MIB as usize).await;
    assert!(check_cached(&blob, 0, 2 * MIB as usize));
}
