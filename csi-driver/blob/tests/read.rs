//! Reading: every byte right, one fetch a part, and errors that stay with their object.

mod support;

use std::sync::Arc;

use futures::future::join_all;
use granary_blob::{Blob, ReadError};
use granary_image::{ExtentTable, TableBuilder};
use support::*;

async fn blob_of(objects: &[(&str, u64)]) -> (tempfile::TempDir, Arc<TestOrigin>, Arc<Blob>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let origin = TestOrigin::new();
    let pool = open(config(dir.path(), None)).await;
    let blob = pool.blob(tag(), table("b", objects), origin.clone()).expect("blob");
    (dir, origin, blob)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_readers_of_a_part_make_one_request() {
    let (_dir, origin, blob) = blob_of(&[("a", MIB)]).await;
    let gate = origin.close_gate();
    let readers = (0..64).map(|n| {
        let blob = blob.clone();
        tokio::spawn(async move { check(&blob, n * 1000, 5000).await })
    });
    let readers: Vec<_> = readers.collect();
    origin.asked.notified().await;
    gate.add_permits(64);
    for reader in readers {
        reader.await.expect("reader");
    }
    assert_eq!(*origin.requests.lock(), [("a".to_owned(), 0..MIB)]);
    assert_eq!(blob.stats().source_bytes, MIB);
}

#[tokio::test]
async fn adjacent_parts_are_one_request_and_objects_are_their_own() {
    let (_dir, origin, blob) = blob_of(&[("a", 3 * MIB + 5), ("b", 100), ("c", 4096)]).await;
    assert!(!check_cached(&blob, 0, 1));
    check(&blob, MIB / 2, blob.len() as usize - MIB as usize / 2).await;
    let mut requests = origin.requests.lock().clone();
    requests.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(requests, [("a".to_owned(), 0..3 * MIB + 5), ("b".to_owned(), 0..100), ("c".to_owned(), 0..4096)]);
    assert!(check_cached(&blob, 0, blob.len() as usize));
    assert!(check_cached(&blob, 3 * MIB + 2, 4096));
    assert!(check_cached(&blob, 3 * MIB + 100, 10), "zeros after an object");
    check(&blob, 0, blob.len() as usize).await;
    assert_eq!(origin.count(), 3);
    let stats = blob.stats();
    assert_eq!((stats.source_requests, stats.source_bytes), (3, 3 * MIB + 5 + 100 + 4096));
    assert_eq!(stats.misses, 6);
    assert_eq!(blob.cached_bytes(), blob.len());
}

#[tokio::test]
async fn present_parts_are_not_fetched_again() {
    let (_dir, origin, blob) = blob_of(&[("a", 5 * MIB)]).await;
    check(&blob, 2 * MIB, 10).await;
    check(&blob, 0, 5 * MIB as usize).await;
    let mut requests: Vec<_> = origin.requests.lock().iter().map(|r| r.1.clone()).collect();
    requests.sort_by_key(|r| r.start);
    assert_eq!(requests, [0..2 * MIB, 2 * MIB..3 * MIB, 3 * MIB..5 * MIB]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_reader_does_not_cancel_the_fetch() {
    let (_dir, origin, blob) = blob_of(&[("a", MIB)]).await;
    let gate = origin.close_gate();
    let first = tokio::spawn({
        let blob = blob.clone();
        async move { check(&blob, 0, 100).await }
    });
    origin.asked.notified().await;
    let second = tokio::spawn({
        let blob = blob.clone();
        async move { check(&blob, 100, 100).await }
    });
    first.abort();
    first.await.expect_err("aborted");
    gate.add_permits(1);
    second.await.expect("reader");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn early_parts_are_readable_while_later_ones_arrive() {
    let (_dir, origin, blob) = blob_of(&[("a", MIB), ("b", MIB)]).await;
    origin.fault("b", Some(Fault::Hangs));
    let mut both = vec![0; 2 * MIB as usize];
    let read = blob.read(0, &mut both);
    tokio::pin!(read);
    assert!(futures::poll!(&mut read).is_pending());
    check(&blob, 0, MIB as usize).await;
    assert_eq!(origin.requests.lock().iter().filter(|r| r.0 == "a").count(), 1);
}

#[tokio::test]
async fn a_changed_object_is_an_error_and_its_neighbours_are_not() {
    let (_dir, origin, blob) = blob_of(&[("a", 10), ("b", 2 * MIB), ("c", 10)]).await;
    origin.fault("b", Some(Fault::Changed));
    let mut buf = vec![0; 10];
    let error = blob.read(4096, &mut buf).await.expect_err("changed");
    assert!(error.is_changed(), "{error}");
    assert_eq!(error.to_string(), "object \"b\" cannot be read: ObjectChanged: as the test wants it");
    check(&blob, 0, 4096).await;
    check(&blob, 4096 + 2 * MIB, 4096).await;
    let errors = blob.read_errors();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].reason.as_str(), errors[0].count), ("ObjectChanged", 1));
}

#[tokio::test]
async fn wrong_answers_are_errors_and_leave_nothing() {
    for fault in [Fault::Unavailable, Fault::Short, Fault::Long, Fault::Breaks, Fault::Panics] {
        let (dir, origin, blob) = blob_of(&[("a", MIB + 10)]).await;
        origin.fault("a", Some(fault));
        let mut buf = vec![0; 10];
        let error = blob.read(MIB, &mut buf).await.expect_err("fault");
        assert_eq!(matches!(error, ReadError::Stopped), fault == Fault::Panics, "{fault:?}: {error}");
        assert!(!check_cached(&blob, MIB, 10), "{fault:?}");
        assert_eq!(blob.cached_bytes(), 0, "{fault:?}");
        assert_eq!(allocated(&config(dir.path(), None), "b"), 0, "{fault:?}");
        origin.fault("a", None);
        check(&blob, MIB, 10).await;
    }
}

#[tokio::test]
async fn reads_beyond_the_end_are_refused() {
    let (_dir, origin, blob) = blob_of(&[("a", 10)]).await;
    for (offset, len) in [(4096, 1), (0, 4097), (u64::MAX, 2)] {
        let mut buf = vec![0; len];
        assert!(matches!(blob.read(offset, &mut buf).await, Err(ReadError::OutOfRange { .. })));
        assert!(matches!(blob.read_cached(offset, &mut buf), Err(ReadError::OutOfRange { .. })));
    }
    blob.read(4096, &mut []).await.expect("nothing");
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn an_empty_blob_opens() {
    let (_dir, _origin, blob) = blob_of(&[]).await;
    assert!(blob.is_empty());
    assert!(check_cached(&blob, 0, 0));
}

#[tokio::test]
async fn a_longer_table_takes_the_place_of_the_open_one() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let pool = open(config(dir.path(), None)).await;
    let origin = TestOrigin::new();
    let short = table("b", &[("a", 10)]);
    let grown = |key: &str| -> ExtentTable {
        let mut builder = TableBuilder::extending(&short);
        builder.allocate(&object(key, MIB)).expect("allocate");
        built(builder)
    };
    let blob = pool.blob(tag(), short.clone(), origin.clone()).expect("blob");
    check(&blob, 0, 4096).await;
    let longer = TestOrigin::new();
    let again = pool.blob(tag(), grown("b"), longer.clone()).expect("blob");
    assert!(Arc::ptr_eq(&blob, &again));
    assert_eq!(blob.len(), 4096 + MIB);
    check(&blob, 0, blob.len() as usize).await;
    assert_eq!((origin.count(), longer.count()), (1, 1));
    blob.extend(short.clone()).expect("an older table");
    assert_eq!(blob.len(), 4096 + MIB);
    assert!(blob.extend(grown("c")).is_err());
    assert!(pool.blob(tag(), grown("c"), origin).is_err());
    check(&blob, 0, blob.len() as usize).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_objects_at_once() {
    let keys: Vec<String> = (0..2000).map(|n| format!("dir/{n}")).collect();
    let objects: Vec<_> = keys.iter().enumerate().map(|(n, key)| (key.as_str(), 1 + (n as u64 * 37) % 9000)).collect();
    let (_dir, origin, blob) = blob_of(&objects).await;
    let len = blob.len();
    let readers = (0..8).map(|n| {
        let blob = blob.clone();
        tokio::spawn(async move { check(&blob, len / 8 / 4096 * 4096 * n, (len / 8) as usize).await })
    });
    for reader in join_all(readers).await {
        reader.expect("reader");
    }
    check(&blob, 0, len as usize).await;
    assert_eq!(origin.count(), 2000);
}
