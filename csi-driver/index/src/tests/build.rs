//! From listings to artifacts and back.

use std::path::Path;

use granary_image::{Digest, ExtentTable, SourceId, TableError};
use proptest::prelude::*;

use super::{files, listed, pin};
use crate::{IndexError, Indexed, build::build, collect::Collector, layout::check};

fn indexed_of(sources: Vec<Collector>, parent: Option<&ExtentTable>, dir: &Path) -> Result<Indexed, IndexError> {
    let prefixes: Vec<_> = sources.iter().map(|source| source.prefix.trim_end_matches('/').to_owned()).collect();
    let layout = check(prefixes.iter().map(|prefix| Some(prefix.as_str()))).unwrap();
    build(sources, &layout.order, parent, "blob-new".to_owned(), dir)
}

#[test]
fn files_lead_to_their_objects() {
    let dir = tempfile::tempdir().unwrap();
    let sources = vec![
        listed("train/", &[("a/1", 10), ("a/2", 5000), ("empty", 0), ("..", 1)]),
        listed("labels/", &[("", 4096)]),
        listed("train.old/", &[]),
    ];
    let indexed = indexed_of(sources, None, dir.path()).unwrap();
    let file = |path: &str, size, key: Option<&str>| (path.to_owned(), size, key.map(str::to_owned));
    assert_eq!(
        files(&indexed),
        [
            file("labels/object.bin", 4096, Some("")),
            file("train/a/1", 10, Some("a/1")),
            file("train/a/2", 5000, Some("a/2")),
            file("train/empty", 0, None),
        ]
    );
    assert_eq!((indexed.file_count, indexed.size_bytes, indexed.blob_bytes), (4, 9106, 4096 * 4));
    assert_eq!((indexed.blob_id.as_str(), indexed.parent), ("blob-new", None));
    assert_eq!(
        indexed.sources.iter().map(|s| (s.file_count, s.size_bytes)).collect::<Vec<_>>(),
        [(3, 5010), (1, 4096), (0, 0)]
    );
    assert_eq!(indexed.skipped.iter().map(|s| (s.reason.as_str(), s.count)).collect::<Vec<_>>(), [("UnusableName", 1)]);
    for artifact in [&indexed.image, &indexed.extents] {
        let bytes = std::fs::read(&artifact.path).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (artifact.digest, artifact.bytes));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn an_empty_listing_is_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let indexed = indexed_of(vec![listed("", &[])], None, dir.path()).unwrap();
    assert_eq!((indexed.file_count, indexed.blob_bytes, files(&indexed)), (0, 0, vec![]));
}

#[test]
fn the_order_of_the_listing_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = vec![("a", 1), ("a.b", 2), ("b/a", 3), ("b-", 4), ("b/c/d", 5), ("é", 6)];
    let first = indexed_of(vec![listed("", &keys)], None, dir.path()).unwrap();
    keys.reverse();
    assert_eq!(indexed_of(vec![listed("", &keys)], None, dir.path()).unwrap(), first);
}

#[test]
fn the_listing_digest_is_of_path_size_and_pin_only() {
    let dir = tempfile::tempdir().unwrap();
    let digest = |source: Collector, parent| indexed_of(vec![source], parent, dir.path()).unwrap().listing_digest;
    let pinned = "sha256:7afa45c4246cac361db2cd0dde7e4d762b355b1aeb40f5cd81c66344804ee82f";
    let first = digest(listed("", &[("a", 1), ("b", 0)]), None);
    assert_eq!(first.to_string(), pinned, "changing the canonical form changes every version");
    let other = indexed_of(vec![listed("", &[("z", 9)])], None, dir.path()).unwrap();
    let parent = ExtentTable::open(&other.extents.path).unwrap();
    assert_eq!(digest(listed("", &[("a", 1), ("b", 0), ("..", 5)]), Some(&parent)), first);
    let mut elsewhere = listed("", &[("a", 1), ("b", 0)]);
    elsewhere.source = SourceId([7; 16]);
    assert_eq!(digest(elsewhere, None), first);
    let mut changed = listed("", &[("a", 1)]);
    changed.add("b", 0, &pin("other"));
    assert_ne!(digest(changed, None), first);
    assert_ne!(digest(listed("", &[("a", 2), ("b", 0)]), None), first);
    assert_ne!(digest(listed("c/", &[("a", 1), ("b", 0)]), None), first);
}

#[test]
fn a_later_version_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = indexed_of(vec![listed("", &[("b", 5), ("c", 5)])], None, dir.path()).unwrap();
    let parent = ExtentTable::open(&first.extents.path).unwrap();
    let second = indexed_of(vec![listed("", &[("a", 5), ("c", 5)])], Some(&parent), dir.path()).unwrap();
    let table = ExtentTable::open(&second.extents.path).unwrap();
    assert!(table.extends(&parent));
    assert_eq!((second.parent, second.blob_bytes), (Some(first.extents.digest), 3 * 4096));
    assert_eq!(files(&second).iter().map(|f| f.0.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(table.extents().map(|e| e.key).collect::<Vec<_>>(), ["b", "c", "a"]);

    // Back to what was there: no object is new, so the table is the parent's.
    let third = indexed_of(vec![listed("", &[("b", 5), ("c", 5)])], Some(&table), dir.path()).unwrap();
    assert_eq!((third.extents.digest, third.parent), (second.extents.digest, Some(second.extents.digest)));
    assert_eq!(third.listing_digest, first.listing_digest);
}

#[test]
fn a_full_blob_is_followed_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let large = 10 << 40;
    let first = indexed_of(vec![listed("", &[("a", large)])], None, dir.path()).unwrap();
    let parent = ExtentTable::open(&first.extents.path).unwrap();
    let second = {
        let layout = check([None].into_iter()).unwrap();
        build(vec![listed("", &[("b", large)])], &layout.order, Some(&parent), "blob-2".to_owned(), dir.path()).unwrap()
    };
    assert_eq!((second.blob_id.as_str(), second.parent, second.blob_bytes), ("blob-2", None, large));
    let error = indexed_of(vec![listed("", &[("a", large), ("b", large)])], None, dir.path()).unwrap_err();
    assert!(matches!(error, IndexError::Table(TableError::TooLarge)));
    assert_eq!((error.reason(), error.is_retryable()), ("TooLarge", false));
}

#[test]
fn sources_of_one_place_share_extents() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (listed("a/", &[("x", 5)]), listed("b/", &[("x", 5)]));
    (a.source, b.source) = (SourceId([1; 16]), SourceId([1; 16]));
    assert_eq!(indexed_of(vec![a, b], None, dir.path()).unwrap().blob_bytes, 4096);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = indexed_of(vec![listed("", &[])], None, Path::new("/nowhere/at/all")).unwrap_err();
    assert!(error.to_string().starts_with("storing an artifact in /nowhere/at/all: "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_key_is_a_file_or_accounted_for(
        keys in prop::collection::hash_map("[ab./\u{0}é-]{0,6}|[ab/]{1,9}|a{250,260}", 0u64..9000, 0..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = Collector::new(SourceId([0; 16]), "p/".to_owned(), None);
        for (key, size) in &keys {
            collector.add(key, *size, &pin(""));
        }
        let indexed = indexed_of(vec![collector], None, dir.path()).unwrap();
        let files = files(&indexed);
        let left_out: u64 = indexed.skipped.iter().map(|s| s.count).sum();
        prop_assert_eq!(files.len() as u64 + left_out, keys.len() as u64);
        prop_assert_eq!(files.len() as u64, indexed.file_count);
        for (path, size, key) in files {
            let name = path.strip_prefix("p/").unwrap();
            prop_assert_eq!(keys.get(name), Some(&size));
            prop_assert_eq!(key.as_deref(), (size > 0).then_some(name));
        }
    }
}
