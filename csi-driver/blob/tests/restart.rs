//! What an earlier process left: kept if the map says so and the checksum agrees, and never trusted otherwise.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use granary_blob::{Blob, Pool};
use granary_image::{ExtentTable, TableBuilder};
use support::*;

const OBJECTS: [(&str, u64); 3] = [("a", 2 * MIB + 5), ("b", 5000), ("c", MIB)];
/// Of all objects, in whole blocks.
const ALL: u64 = 3 * MIB + 4096 + 8192;

/// A pool's directory, flushed, and copies of what it was before anything was read.
struct Left {
    root: tempfile::TempDir,
}

impl Left {
    async fn new() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let pool = open(config(root.path(), None)).await;
        let blob = pool.blob(tag(), table("b", &OBJECTS), TestOrigin::new()).expect("blob");
        fs::copy(root.path().join("cache/blobs/b/parts"), root.path().join("empty-parts")).expect("copy");
        check(&blob, 0, blob.len() as usize).await;
        pool.flush().await;
        drop((blob, pool));
        Self { root }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("cache/blobs/b").join(name)
    }

    fn flip(&self, name: &str, at: u64) {
        let file = OpenOptions::new().read(true).write(true).open(self.file(name)).expect("open");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 0x40], at).expect("write");
    }

    async fn reopen(&self, table: ExtentTable) -> (Arc<Pool>, Arc<TestOrigin>, Arc<Blob>) {
        let origin = TestOrigin::new();
        let pool = open(config(self.root.path(), None)).await;
        let blob = pool.blob(tag(), table, origin.clone()).expect("blob");
        (pool, origin, blob)
    }

    /// Reads all and returns the parts that were fetched, by the offsets of their first bytes.
    async fn fetched(&self) -> Vec<(String, u64)> {
        let (_pool, origin, blob) = self.reopen(table("b", &OBJECTS)).await;
        check(&blob, 0, blob.len() as usize).await;
        check(&blob, 0, blob.len() as usize).await;
        assert_eq!(blob.cached_bytes(), ALL);
        assert_eq!(allocated(&config(self.root.path(), None), "b"), ALL);
        let mut parts: Vec<_> = origin
            .requests
            .lock()
            .iter()
            .flat_map(|(key, range)| range.clone().step_by(MIB as usize).map(|at| (key.clone(), at)))
            .collect();
        parts.sort();
        parts
    }
}

fn all_parts() -> Vec<(String, u64)> {
    [("a", 0), ("a", MIB), ("a", 2 * MIB), ("b", 0), ("c", 0)].map(|(key, at)| (key.to_owned(), at)).to_vec()
}

#[tokio::test]
async fn flushed_parts_are_kept() {
    let left = Left::new().await;
    let pool = open(config(left.root.path(), None)).await;
    let usage = pool.blobs();
    assert_eq!(usage.len(), 1);
    assert_eq!((usage[0].blob_id.as_str(), usage[0].cached_bytes, &usage[0].tag), ("b", ALL, &tag()));
    assert_eq!(pool.usage().used_bytes / MIB, ALL / MIB);
    drop(pool);
    assert_eq!(left.fetched().await, []);
}

#[tokio::test]
async fn data_without_a_map_is_not_trusted() {
    let left = Left::new().await;
    fs::copy(left.root.path().join("empty-parts"), left.file("parts")).expect("copy");
    let (pool, _, blob) = left.reopen(table("b", &OBJECTS)).await;
    assert_eq!((blob.cached_bytes(), allocated(&config(left.root.path(), None), "b")), (0, 0));
    drop((pool, blob));
    assert_eq!(left.fetched().await, all_parts());
}

#[tokio::test]
async fn a_map_without_data_is_found_out() {
    let left = Left::new().await;
    let data = fs::File::create(left.file("data")).expect("truncate");
    data.set_len(ALL).expect("zeros");
    assert_eq!(left.fetched().await, all_parts());
}

#[tokio::test]
async fn a_map_of_a_shorter_file_is_found_out() {
    let left = Left::new().await;
    let data = OpenOptions::new().write(true).open(left.file("data")).expect("open");
    data.set_len(2 * MIB + 3).expect("truncate");
    assert_eq!(left.fetched().await, all_parts()[2..]);
}

/// The data file grows again with the table, and has zeros there then.
#[tokio::test]
async fn what_the_data_file_has_lost_does_not_come_back_to_be_trusted() {
    let left = Left::new().await;
    let data = OpenOptions::new().write(true).open(left.file("data")).expect("open");
    data.set_len(2 * MIB + 3).expect("truncate");
    let (pool, _, blob) = left.reopen(table("b", &OBJECTS)).await;
    pool.close().await;
    drop((pool, blob));
    assert_eq!(left.fetched().await, all_parts()[2..]);
}

#[tokio::test]
async fn a_flipped_bit_costs_its_part_only() {
    let left = Left::new().await;
    left.flip("data", MIB + 77);
    assert_eq!(left.fetched().await, [("a".to_owned(), MIB)]);
}

#[tokio::test]
async fn a_damaged_part_is_not_served_though_the_source_is_gone() {
    let left = Left::new().await;
    left.flip("data", MIB + 77);
    let (_pool, origin, blob) = left.reopen(table("b", &OBJECTS)).await;
    origin.fault("a", Some(Fault::Unavailable));
    let mut buf = vec![0; 10];
    blob.read(MIB, &mut buf).await.expect_err("damaged");
    check(&blob, 0, MIB as usize).await;
}

#[tokio::test]
async fn a_damaged_map_is_not_trusted() {
    let left = Left::new().await;
    left.flip("parts", 512 + 16 + 8);
    assert_eq!(left.fetched().await, all_parts());
    let left = Left::new().await;
    left.flip("parts", 40);
    assert_eq!(left.fetched().await, all_parts());
    let left = Left::new().await;
    fs::write(left.file("parts"), "").expect("truncate");
    assert_eq!(left.fetched().await, all_parts());
}

#[tokio::test]
async fn a_map_that_disagrees_with_the_table_is_not_trusted() {
    let left = Left::new().await;
    let other = table("b", &[("a", 10), ("b", 2 * MIB), ("c", MIB)]);
    let (_pool, origin, blob) = left.reopen(other).await;
    assert_eq!(blob.cached_bytes(), 0);
    check(&blob, 0, blob.len() as usize).await;
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn an_older_version_keeps_what_a_newer_one_has() {
    let left = Left::new().await;
    let shorter = table("b", &OBJECTS[..1]);
    let (pool, origin, blob) = left.reopen(shorter.clone()).await;
    check(&blob, 0, blob.len() as usize).await;
    assert_eq!((blob.len(), blob.cached_bytes()), (2 * MIB + 4096, ALL));
    let mut builder = TableBuilder::extending(&shorter);
    for (key, size) in &OBJECTS[1..] {
        builder.allocate(&object(key, *size)).expect("allocate");
    }
    pool.blob(tag(), built(builder), origin.clone()).expect("longer");
    check(&blob, 0, blob.len() as usize).await;
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_cache_of_another_format_starts_anew() {
    let left = Left::new().await;
    fs::write(left.root.path().join("cache/format"), "granary-cache 2\n").expect("write");
    assert_eq!(left.fetched().await, all_parts());
}
