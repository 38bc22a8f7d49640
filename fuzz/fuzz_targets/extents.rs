//! An extent table: what a node gets from the image store, and an index Job as its parent.
#![no_main]

use granary_fuzz::seal;
use granary_image::{BLOCK_BYTES, ExtentTable, Object, PART_BYTES, Pin, PinKind, SourceId, TableBuilder};
use libfuzzer_sys::fuzz_target;

/// Parts of a table that are looked at; a table of a few bytes can have millions.
const PARTS: u64 = 64;

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    let mut sealed = data.to_vec();
    seal::table(&mut sealed);
    check(sealed);
});

fn check(bytes: Vec<u8>) {
    let Ok(table) = ExtentTable::from_bytes(bytes.clone()) else { return };
    let mut end = 0;
    for extent in table.extents() {
        assert_eq!((extent.offset, extent.offset % BLOCK_BYTES), (end, 0));
        assert_eq!(table.at(extent.offset).map(|found| found.index), Some(extent.index));
        end = extent.offset + extent.size.next_multiple_of(BLOCK_BYTES);
        let last = table.part_at(end - 1).expect("the extent lies in the blob");
        assert_eq!(last.extent, extent.index);
        assert_eq!(last.blob_offset + u64::from(last.len), extent.offset + extent.size);
    }
    assert_eq!(end, table.blob_bytes());
    assert!(table.at(end).is_none() && table.part_at(end).is_none());
    let count = table.part_count();
    let mut near = 0;
    for number in (0..PARTS.min(count)).chain(count.saturating_sub(PARTS)..count) {
        let part = table.part(number);
        assert!(part.number == number && part.len > 0 && u64::from(part.len) <= PART_BYTES);
        assert_eq!(table.part_near(&mut near, number), part);
        assert_eq!(table.part_at(part.blob_offset), Some(part));
    }
    extend(&table, bytes);
}

/// What an index Job does with its parent's table.
fn extend(table: &ExtentTable, bytes: Vec<u8>) {
    let mut same = Vec::new();
    TableBuilder::extending(table).finish(&mut same).expect("a valid table can be written");
    assert!(same == bytes, "there is one way to write a table");
    let mut longer = TableBuilder::extending(table);
    let pin = Pin { kind: PinKind::SizeOnly, value: String::new() };
    let object = Object { source: SourceId([7; 16]), key: "another".to_owned(), pin, size: 5 };
    if longer.allocate(&object).is_err() {
        return;
    }
    let mut written = Vec::new();
    longer.finish(&mut written).expect("a valid table can be written");
    let written = ExtentTable::from_bytes(written).expect("what was written can be read");
    assert!(written.extends(table));
}
