//! Extent tables: placement, lookups, extension, damage.

use granary_image::{
    BLOCK_BYTES, ExtentTable, Object, PART_BYTES, Part, Pin, PinKind, SourceId, TableBuilder, TableError,
};
use proptest::prelude::*;

const HEADER_BYTES: usize = 128;

fn object(key: &str, size: u64) -> Object {
    let pin = Pin { kind: PinKind::ETag, value: format!("\"{key}-1\"") };
    Object { source: SourceId::of("s3://bucket/", None), key: key.to_owned(), pin, size }
}

fn bytes_of(builder: TableBuilder) -> Vec<u8> {
    let mut bytes = Vec::new();
    let summary = builder.finish(&mut bytes).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(summary.digest, granary_image::Digest::of(&bytes));
    bytes
}

fn built(objects: &[Object]) -> TableBuilder {
    let mut builder = TableBuilder::new("blob-1".to_owned());
    for object in objects {
        builder.allocate(object).unwrap();
    }
    builder
}

fn table(objects: &[Object]) -> ExtentTable {
    ExtentTable::from_bytes(bytes_of(built(objects))).unwrap()
}

/// Makes a table's checksums right again after its bytes were changed, as an attacker would.
fn seal(bytes: &mut [u8]) {
    let body = crc32c::crc32c(&bytes[HEADER_BYTES..]);
    bytes[16..20].copy_from_slice(&body.to_le_bytes());
    bytes[12..16].fill(0);
    let head = crc32c::crc32c(&bytes[..HEADER_BYTES]);
    bytes[12..16].copy_from_slice(&head.to_le_bytes());
}

fn use_everything(table: &ExtentTable) {
    for extent in table.extents() {
        assert_eq!(table.at(extent.offset), Some(extent));
        let first = table.part(extent.first_part);
        assert_eq!((first.extent, first.blob_offset), (extent.index, extent.offset));
    }
    for offset in [0, 1, table.blob_bytes() / 2, table.blob_bytes().saturating_sub(1)] {
        assert_eq!(table.at(offset).is_some(), offset < table.blob_bytes());
        assert_eq!(table.part_at(offset).is_some(), offset < table.blob_bytes());
    }
    assert_eq!(table.at(table.blob_bytes()), None);
    assert_eq!(table.part_at(u64::MAX), None);
    assert!(table.extends(table));
}

#[test]
fn objects_are_placed_one_after_the_other_on_blocks() {
    let table = table(&[object("a", 1), object("b", 4096), object("c", 2 * PART_BYTES + 5), object("d", 3)]);
    let places: Vec<_> = table.extents().map(|e| (e.key, e.offset, e.first_part, e.size)).collect();
    let d = 8192 + 2 * PART_BYTES + BLOCK_BYTES;
    assert_eq!(places, [("a", 0, 0, 1), ("b", 4096, 1, 4096), ("c", 8192, 2, 2 * PART_BYTES + 5), ("d", d, 5, 3)]);
    assert_eq!((table.len(), table.part_count(), table.blob_bytes()), (4, 6, d + BLOCK_BYTES));
    assert_eq!(table.extent(0).to_object(), object("a", 1));
    use_everything(&table);
}

#[test]
fn parts_are_found_by_number_and_by_offset() {
    let table = table(&[object("a", 1), object("c", 2 * PART_BYTES + 5)]);
    let at = |number, extent, object_offset, blob_offset, len| Part { number, extent, object_offset, blob_offset, len };
    let last = at(3, 1, 2 * PART_BYTES, 4096 + 2 * PART_BYTES, 5);
    assert_eq!(table.part(0), at(0, 0, 0, 0, 1));
    assert_eq!(table.part(1), at(1, 1, 0, 4096, PART_BYTES as u32));
    assert_eq!(table.part(3), last);
    for numbers in [[0, 1, 2, 3], [3, 0, 2, 1]] {
        let mut extent = 0;
        for number in numbers {
            assert_eq!(table.part_near(&mut extent, number), table.part(number));
        }
    }
    assert_eq!(table.part_at(4095), Some(table.part(0)), "zeros after an object belong to its last part's range");
    assert_eq!(table.part_at(4096 + PART_BYTES - 1), Some(table.part(1)));
    assert_eq!(table.part_at(4096 + PART_BYTES), Some(table.part(2)));
    assert_eq!(table.part_at(table.blob_bytes() - 1), Some(last));
    assert_eq!(table.part_at(table.blob_bytes()), None);
}

#[test]
fn equal_objects_share_an_extent_and_others_do_not() {
    let mut builder = built(&[object("a", 10)]);
    let first = builder.allocate(&object("a", 10)).unwrap();
    assert_eq!((first, builder.blob_bytes()), (0, 4096));
    let mut changed = object("a", 10);
    changed.pin.value.push('x');
    let mut elsewhere = object("a", 10);
    elsewhere.source = SourceId::of("s3://other/", None);
    let mut weaker = object("a", 10);
    weaker.pin.kind = PinKind::VersionId;
    // The same bytes in another split of key and pin.
    let mut split = object("a", 10);
    split.key.push_str(&split.pin.value);
    split.pin.value.clear();
    for (index, other) in [changed, elsewhere, weaker, split, object("a", 11)].iter().enumerate() {
        assert_eq!(builder.allocate(other).unwrap(), 4096 * (index as u64 + 1));
    }
}

#[test]
fn a_table_that_extends_another_keeps_all_of_it() {
    let parent = table(&[object("b", 5000), object("c", 1)]);
    let mut builder = TableBuilder::extending(&parent);
    assert_eq!(builder.allocate(&object("a", 1)).unwrap(), parent.blob_bytes());
    assert_eq!(builder.allocate(&object("c", 1)).unwrap(), 8192);
    let child = ExtentTable::from_bytes(bytes_of(builder)).unwrap();
    assert!(child.extends(&parent) && !parent.extends(&child));
    assert!(parent.extents().eq(child.extents().take(2)));
    use_everything(&child);

    let mut other = TableBuilder::new("blob-2".to_owned());
    other.allocate(&object("b", 5000)).unwrap();
    other.allocate(&object("c", 1)).unwrap();
    assert!(!ExtentTable::from_bytes(bytes_of(other)).unwrap().extends(&parent));
    assert!(!table(&[object("b", 5001), object("c", 1)]).extends(&parent));
}

#[test]
fn extending_without_news_gives_the_same_table() {
    let bytes = bytes_of(built(&[object("b", 5000), object("c", 1)]));
    let parent = ExtentTable::from_bytes(bytes.clone()).unwrap();
    let mut builder = TableBuilder::extending(&parent);
    builder.allocate(&object("c", 1)).unwrap();
    assert_eq!(bytes_of(builder), bytes);
    assert_eq!(parent.digest(), granary_image::Digest::of(&bytes));
}

#[test]
fn an_empty_table_is_valid() {
    let table = table(&[]);
    assert!(table.is_empty());
    assert_eq!((table.blob_bytes(), table.part_count()), (0, 0));
    use_everything(&table);
}

#[test]
fn a_table_is_read_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("extents");
    assert!(matches!(ExtentTable::open(&path), Err(TableError::Open { .. })));
    std::fs::write(&path, []).unwrap();
    assert!(matches!(ExtentTable::open(&path), Err(TableError::NotATable)));
    std::fs::write(&path, bytes_of(built(&[object("a", 1)]))).unwrap();
    assert_eq!(ExtentTable::open(&path).unwrap().extent(0).key, "a");
}

#[test]
fn what_cannot_be_placed_is_refused() {
    let mut builder = built(&[]);
    assert!(matches!(builder.allocate(&object("a", 0)), Err(TableError::EmptyObject(_))));
    assert!(matches!(builder.allocate(&object("a", u64::MAX)), Err(TableError::TooLarge)));
    assert!(matches!(builder.allocate(&object("a", 16 << 40)), Err(TableError::TooLarge)));
    assert_eq!(builder.allocate(&object("a", (16 << 40) - (2 << 30))).unwrap(), 0);
    assert!(matches!(builder.allocate(&object("b", 1 << 30)), Err(TableError::TooLarge)));
    use_everything(&ExtentTable::from_bytes(bytes_of(builder)).unwrap());
}

#[test]
fn a_blob_id_is_a_safe_directory_name() {
    for id in ["", ".", "../x", "a/b", "a b", "ä", &"x".repeat(64)] {
        let result = TableBuilder::new(id.to_owned()).finish(&mut Vec::new());
        assert!(matches!(result, Err(TableError::BlobId(_))), "{id}");
    }
    let longest = "x".repeat(63);
    let bytes = bytes_of(TableBuilder::new(longest.clone()));
    assert_eq!(ExtentTable::from_bytes(bytes.clone()).unwrap().blob_id(), longest);
    let mut traversal = bytes;
    traversal[64..67].copy_from_slice(b"../");
    seal(&mut traversal);
    assert!(matches!(ExtentTable::from_bytes(traversal), Err(TableError::Damaged(_))));
}

#[test]
fn another_format_is_named() {
    let mut bytes = bytes_of(built(&[]));
    bytes[8] = 2;
    assert!(matches!(ExtentTable::from_bytes(bytes), Err(TableError::UnknownFormat(2))));
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let bytes = bytes_of(built(&[object("a", 1), object("b", PART_BYTES + 1)]));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(ExtentTable::from_bytes(damaged).is_err(), "byte {at}");
        assert!(ExtentTable::from_bytes(bytes[..at].to_vec()).is_err(), "cut at {at}");
    }
}

#[test]
fn a_resealed_table_must_still_be_consistent() {
    let good = bytes_of(built(&[object("a", 1), object("b", PART_BYTES + 1)]));
    let record = HEADER_BYTES + 16 + 40;
    // Sizes, first parts, string and block positions, lengths, source, pin kind and padding of the second record, the header's sums.
    for at in [0, 8, 16, 24, 28, 32, 36, 39].map(|at| record + at).into_iter().chain([24, 32, 40, 48, 56]) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        seal(&mut bytes);
        // A size may change within its last block: nothing else depends on it.
        if at != record {
            assert!(ExtentTable::from_bytes(bytes).is_err(), "byte {at}");
        }
    }
    let mut bytes = good;
    let last = bytes.len() - 1;
    bytes[last] = 0xff;
    seal(&mut bytes);
    assert!(matches!(ExtentTable::from_bytes(bytes), Err(TableError::Damaged(_))), "not UTF-8");
}

fn objects() -> impl Strategy<Value = Vec<Object>> {
    let size = prop_oneof![1u64..10_000, 1u64..4 * PART_BYTES];
    let object = ("[a-dä/]{0,6}", "[a-c]{0,2}", 0u8..3, size).prop_map(|(key, value, source, size)| {
        let source = SourceId([source; 16]);
        Object { source, key, pin: Pin { kind: PinKind::ETag, value }, size }
    });
    prop::collection::vec(object, 0..40)
}

proptest! {
    #[test]
    fn every_byte_of_a_blob_has_one_owner(objects in objects()) {
        let mut builder = TableBuilder::new("b".to_owned());
        let places: Vec<u64> = objects.iter().map(|o| builder.allocate(o).unwrap()).collect();
        let table = ExtentTable::from_bytes(bytes_of(builder)).unwrap();
        for (object, place) in objects.iter().zip(places) {
            let extent = table.at(place).unwrap();
            prop_assert_eq!((&extent.to_object(), extent.offset), (object, place));
        }
        let mut end = 0;
        for number in 0..table.part_count() {
            let part = table.part(number);
            let extent = table.extent(part.extent);
            prop_assert_eq!((part.number, part.blob_offset), (number, extent.offset + part.object_offset));
            prop_assert!(part.len > 0 && u64::from(part.len) <= PART_BYTES);
            prop_assert!(part.blob_offset == u64::next_multiple_of(end, BLOCK_BYTES));
            prop_assert_eq!(table.part_at(part.blob_offset), Some(part));
            prop_assert_eq!(table.part_at(part.blob_offset + u64::from(part.len) - 1), Some(part));
            end = part.blob_offset + u64::from(part.len);
        }
        prop_assert_eq!(end.next_multiple_of(BLOCK_BYTES), table.blob_bytes());
        use_everything(&table);
    }

    #[test]
    fn hostile_tables_never_panic(objects in objects(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in 0usize..3) {
        let mut bytes = bytes_of(built(&objects));
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate((bytes.len() - cut).max(HEADER_BYTES));
        seal(&mut bytes);
        if let Ok(table) = ExtentTable::from_bytes(bytes) {
            use_everything(&table);
        }
    }
}
