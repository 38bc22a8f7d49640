//! Filesystems and quotas that take no more, although they said that there was room.

use std::io::ErrorKind;

use super::support::*;
use crate::Pool;

#[tokio::test]
async fn a_filesystem_that_takes_nothing_is_read_past() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(dir.path(), None);
    let pool = Pool::open(config.clone()).expect("open");
    let blob = pool.blob(tag(), table("b", &[("a", 4 * MIB)]), TestOrigin::new()).expect("blob");
    // In the middle of the first part.
    *pool.write_error.lock() = Some((3, ErrorKind::StorageFull));
    check(&blob, 0, 4 * MIB as usize).await;
    check(&blob, 0, 4 * MIB as usize).await;
    let stats = blob.stats();
    assert_eq!((stats.uncached_bytes, stats.failed_writes), (8 * MIB, 1), "no write was tried again");
    assert_eq!((allocated(&config, "b"), blob.cached_bytes()), (0, 0));
    assert!(blob.read_errors().is_empty());
    *pool.write_error.lock() = None;
    pool.reconfigure(&config).expect("reconfigure");
    check(&blob, 0, 4 * MIB as usize).await;
    assert_eq!(blob.cached_bytes(), 4 * MIB, "new limits are a reason to try again");
}

#[tokio::test]
async fn within_a_quota_that_is_not_seen_the_cache_goes_on() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(dir.path(), None);
    let pool = Pool::open(config.clone()).expect("open");
    let blob = pool.blob(tag(), table("b", &[("a", 20 * MIB)]), TestOrigin::new()).expect("blob");
    check(&blob, 0, 8 * MIB as usize).await;
    *pool.write_error.lock() = Some((0, ErrorKind::QuotaExceeded));
    check(&blob, 8 * MIB, MIB as usize).await;
    assert!(!check_cached(&blob, 8 * MIB, 10), "there was no room for it");
    *pool.write_error.lock() = None;
    for part in 9..20 {
        check(&blob, part * MIB, MIB as usize).await;
        assert!(check_cached(&blob, part * MIB, 10), "something made room for part {part}");
        assert!(allocated(&config, "b") < 8 * MIB);
    }
    assert_eq!((blob.stats().uncached_bytes, blob.stats().failed_writes), (MIB, 1));
    assert!(blob.read_errors().is_empty());
}

#[tokio::test]
async fn a_damaged_filesystem_is_read_past_and_tried_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = Pool::open(config(dir.path(), None)).expect("open");
    let blob = pool.blob(tag(), table("b", &[("a", 3 * MIB)]), TestOrigin::new()).expect("blob");
    *pool.write_error.lock() = Some((3, ErrorKind::Other));
    check(&blob, 0, 2 * MIB as usize).await;
    *pool.write_error.lock() = None;
    check(&blob, 2 * MIB, MIB as usize).await;
    assert_eq!((blob.cached_bytes(), blob.stats().failed_writes), (MIB, 2));
}
