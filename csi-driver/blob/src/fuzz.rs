//! Entries of a fuzz target in `fuzz/`, and there only: what a cache can find in its directory.

use std::fs;
use std::path::Path;

use granary_image::BLOCK_BYTES;

use crate::layout::Layout;
use crate::store::Store;

const ID: &str = "blob";

/// Opens a blob of which `dir` has the parts file `parts` and a data file of `data_bytes` zeros, then evicts all that it has.
pub fn parts_file(dir: &Path, parts: &[u8], data_bytes: u64) {
    fs::create_dir_all(dir).expect("the directory can be made");
    fs::write(dir.join("parts"), parts).expect("the parts file can be written");
    fs::File::create(dir.join("data")).and_then(|data| data.set_len(data_bytes)).expect("the data file can be made");
    let (store, unknown) = Store::open(dir, ID, true).expect("what is damaged is discarded");
    let present: Vec<u64> =
        store.parts.iter().filter(|(_, part)| part.begin_evict()).map(|(number, _)| number).collect();
    let blocks: u64 = present.iter().map(|&part| u64::from(store.parts.get(part).blocks())).sum();
    assert_eq!(store.cached_bytes(), blocks * BLOCK_BYTES);
    assert!(store.cached_bytes() <= data_bytes.next_multiple_of(BLOCK_BYTES));
    assert!(unknown.iter().all(|range| range.start < range.end && range.end <= data_bytes));
    assert!(unknown.windows(2).all(|pair| pair[0].end < pair[1].start));
    store.free(&unknown).expect("zeros can be freed");
    assert_eq!(store.evict(present).expect("what is present can be evicted"), blocks * BLOCK_BYTES);
    drop(store);
    let (store, _) = Store::open(dir, ID, true).expect("the blob can be opened again");
    assert_eq!(store.cached_bytes(), 0, "what was evicted is not there");
}

/// Opens a cache whose file `format` says `text`. What no cache made stays, and a cache that was opened can be opened again.
pub fn format_file(dir: &Path, text: &[u8]) {
    fs::create_dir_all(dir.join("blobs/b1")).expect("the directories can be made");
    let (notes, data) = (dir.join("blobs/b1/notes"), dir.join("blobs/b1/data"));
    fs::write(&notes, "of somebody else").expect("a file can be written");
    fs::write(&data, "of the cache").expect("a file can be written");
    fs::write(dir.join("format"), text).expect("a file can be written");
    match Layout::open(dir) {
        Ok(layout) => {
            drop(layout);
            let format = fs::read(dir.join("format")).expect("the format can be read");
            assert!(format.starts_with(b"granary-cache "));
            drop(Layout::open(dir).expect("it can be opened again"));
        }
        Err(_) => {
            assert_eq!(fs::read(dir.join("format")).expect("the format can be read"), text);
            assert!(data.exists(), "what is no cache stays as it is");
        }
    }
    assert!(notes.exists(), "what is not the cache's stays as it is");
}
