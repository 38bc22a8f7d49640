//! Which parts a version needs.

use std::collections::BTreeSet;
use std::time::Instant;

use granary_image::{
    ExtentTable, ImageBuilder, ImageReader, Object, PART_BYTES, PartRanges, Pin, PinKind, SourceId, TableBuilder,
    parts_of,
};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn ranges_are_a_set(ranges in vec((0u64..60, 0u64..8), 0..20)) {
        let expected: BTreeSet<u64> = ranges.iter().flat_map(|&(start, len)| start..start + len).collect();
        let parts: PartRanges = ranges.iter().map(|&(start, len)| start..start + len).collect();
        prop_assert_eq!(parts.iter().flatten().collect::<Vec<_>>(), expected.iter().copied().collect::<Vec<_>>());
        prop_assert!(parts.iter().zip(parts.iter().skip(1)).all(|(a, b)| a.end < b.start), "{:?}", parts);
        prop_assert_eq!(parts.len(), expected.len() as u64);
        prop_assert_eq!(parts.end(), expected.last().map_or(0, |last| last + 1));
        prop_assert!((0..70).all(|n| parts.contains(n) == expected.contains(&n)));
        prop_assert_eq!(parts.is_empty(), expected.is_empty());
    }
}

fn object(key: &str, size: u64) -> Object {
    let pin = Pin { kind: PinKind::ETag, value: format!("\"{key}\"") };
    Object { source: SourceId::of("test://", None), key: key.to_owned(), pin, size }
}

/// A table of `allocated` objects, and an image of `files`, each of which is one of them or empty.
fn version(allocated: &[(&str, u64)], files: &[(&str, u64)]) -> (ImageReader, ExtentTable) {
    let mut table = TableBuilder::new("blob".to_owned());
    for (key, size) in allocated {
        table.allocate(&object(key, *size)).unwrap();
    }
    let mut image = ImageBuilder::new();
    for (key, size) in files {
        let offset = if *size == 0 { 0 } else { table.allocate(&object(key, *size)).unwrap() };
        image.add_file(key, *size, offset).unwrap();
    }
    let (mut table_bytes, mut image_bytes) = (Vec::new(), Vec::new());
    let blob_bytes = table.finish(&mut table_bytes).unwrap().blob_bytes;
    image.finish(blob_bytes, &mut image_bytes).unwrap();
    let image = ImageReader::from_bytes(image_bytes).unwrap();
    let table = ExtentTable::from_bytes(table_bytes).unwrap();
    image.validate(&table).unwrap();
    (image, table)
}

fn ranges(parts: &PartRanges) -> Vec<(u64, u64)> {
    parts.iter().map(|range| (range.start, range.end)).collect()
}

#[test]
fn objects_of_older_versions_are_left_out() {
    let objects = [("d", 5), ("b", 3 * PART_BYTES + 1), ("old", PART_BYTES), ("c", PART_BYTES), ("a", 1)];
    let files = [("a", 1), ("b", 3 * PART_BYTES + 1), ("c", PART_BYTES), ("d", 5), ("empty", 0)];
    let (image, table) = version(&objects, &files);
    assert_eq!(ranges(&parts_of(&image, &table).unwrap()), [(0, 5), (6, 8)]);
    let (image, table) = version(&objects, &[]);
    assert!(parts_of(&image, &table).unwrap().is_empty());
    let (image, table) = version(&[], &[("empty", 0)]);
    assert!(parts_of(&image, &table).unwrap().is_empty());
}

#[test]
fn a_file_that_is_no_object_is_an_error() {
    let (image, _) = version(&[], &[("a", 5000), ("b", 9000)]);
    let (_, other) = version(&[], &[("a", 9000), ("b", 5000)]);
    parts_of(&image, &other).unwrap_err();
}

/// `cargo test --release -p granary-image --test parts million -- --ignored --nocapture`
#[test]
#[ignore = "a benchmark: prints the time for 1,000,000 files"]
fn parts_of_a_million_files() {
    let keys: Vec<String> =
        (0..1_000_000).map(|i| format!("train/class-{:05}/sample-image_{i:012}.jpeg", i / 1000)).collect();
    let files: Vec<_> = keys.iter().map(|key| (key.as_str(), 50_000)).collect();
    for (what, allocated) in [("in order", vec![]), ("in reverse", files.iter().rev().copied().collect())] {
        let (image, table) = version(&allocated, &files);
        let start = Instant::now();
        let parts = parts_of(&image, &table).unwrap();
        println!("1,000,000 files {what}: {:?}", start.elapsed());
        assert_eq!(ranges(&parts), [(0, 1_000_000)]);
    }
}
