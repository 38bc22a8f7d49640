//! An image of EROFS, followed by an extent table: what a node gets from the image store and checks before the kernel sees it.
#![no_main]

use std::collections::HashSet;

use granary_fuzz::{seal, split_image};
use granary_image::{BLOCK_BYTES, ExtentTable, ImageReader, is_file_path, parts_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (image, table) = split_image(data);
    let mut table = table.to_vec();
    seal::table(&mut table);
    let table = ExtentTable::from_bytes(table).ok();
    check(image.to_vec(), table.as_ref());
    let mut sealed = image.to_vec();
    seal::image(&mut sealed);
    check(sealed, table.as_ref());
});

fn check(image: Vec<u8>, table: Option<&ExtentTable>) {
    let Ok(image) = ImageReader::from_bytes(image) else { return };
    let mut paths = HashSet::new();
    let mut sound = true;
    for file in image.files() {
        let Ok(file) = file else {
            sound = false;
            continue;
        };
        assert!(sound, "a file comes after an error");
        assert!(is_file_path(&file.path), "{:?}", file.path);
        assert_eq!(file.blob_offset.is_none(), file.size == 0);
        if let Some(offset) = file.blob_offset {
            assert!(offset % BLOCK_BYTES == 0 && offset + file.size <= image.blob_bytes(), "{file:?}");
        }
        assert!(paths.insert(file.path), "a path comes twice");
    }
    assert!((paths.len() as u64) < image.inode_count().max(1), "more files than inodes, one of which is the root");
    let Some(table) = table else { return };
    let parts = parts_of(&image, table);
    if image.validate(table).is_err() {
        return;
    }
    let parts = parts.expect("the files of a valid image are objects of the table");
    assert!(sound && parts.end() <= table.part_count());
    for file in image.files().map(|file| file.expect("the image is valid")) {
        let Some(offset) = file.blob_offset else { continue };
        let first = table.part_at(offset).expect("a file lies in the blob");
        let last = table.part_at(offset + file.size - 1).expect("a file lies in the blob");
        assert!(first.extent == last.extent && first.blob_offset == offset);
        assert!(parts.contains(first.number) && parts.contains(last.number));
    }
}
