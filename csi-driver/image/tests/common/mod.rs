//! Trees for the tests of images.

use std::collections::BTreeMap;

use granary_image::{BLOCK_BYTES, Digest, ImageBuilder, ImageReader, ImageSummary};
use proptest::prelude::*;

/// Path to size and place.
pub type Tree = BTreeMap<String, (u64, Option<u64>)>;

/// Gives each file its place in path order.
pub fn placed(files: impl IntoIterator<Item = (String, u64)>) -> Tree {
    let mut next = 0;
    let sorted: BTreeMap<_, _> = files.into_iter().collect();
    let place = |(path, size): (String, u64)| {
        let at = next;
        next += size.next_multiple_of(BLOCK_BYTES);
        (path, (size, (size > 0).then_some(at)))
    };
    sorted.into_iter().map(place).collect()
}

pub fn blob_bytes(tree: &Tree) -> u64 {
    tree.values().map(|(size, at)| at.unwrap_or(0) + size.next_multiple_of(BLOCK_BYTES)).max().unwrap_or(0)
}

pub fn image(tree: &Tree) -> (Vec<u8>, ImageSummary) {
    let mut builder = ImageBuilder::new();
    for (path, (size, at)) in tree {
        builder.add_file(path, *size, at.unwrap_or(0)).unwrap();
    }
    let mut bytes = Vec::new();
    let summary = builder.finish(blob_bytes(tree), &mut bytes).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!(summary.digest, Digest::of(&bytes));
    assert_eq!(summary.file_count, tree.len() as u64);
    (bytes, summary)
}

#[allow(dead_code, reason = "each test binary uses its share of this module")]
pub fn read_back(bytes: Vec<u8>) -> Tree {
    let reader = ImageReader::from_bytes(bytes).unwrap();
    reader.files().map(|file| file.map(|f| (f.path, (f.size, f.blob_offset))).unwrap()).collect()
}

/// Names and shapes that went wrong somewhere before: several blocks of entries, full blocks, long and odd names, names around
/// `.` and `/` in byte order, depth, empty files.
pub fn awkward() -> Tree {
    let mut files: Vec<(String, u64)> = Vec::new();
    files.extend((0..3000).map(|i| (format!("many/file-{i:05}.jpg"), 1 + i % 9000)));
    // Entries of 12 + 244 bytes fill a block exactly (with `.` and `..` in the first one).
    files.extend((0..64).map(|i| (format!("full/{i:0244}"), 1)));
    files.extend((0..40).map(|i| (format!("long/{}{i:02}", "n".repeat(253)), 4096)));
    files.extend((0..300).map(|i| (format!("dirs/d{i}/x"), 5)));
    files.push((format!("{}end", "d/".repeat(500)), 12_345));
    let odd = [
        "!",
        "-x",
        "...",
        ".hidden",
        "..a",
        " ",
        "a\nb",
        "ünïcödé/文件 🦀",
        "back\\slash",
        "many.txt",
        "many-2/z",
        "zero",
    ];
    files.extend(odd.map(|name| (name.to_owned(), 7)));
    files.push((format!("{}/{}", "ж".repeat(127), "k".repeat(255)), 1_000_000));
    files.push(("key/".to_owned() + &"s/".repeat(509) + "ab", 3));
    files.extend(["empty/a", "empty/b", "none"].map(|name| (name.to_owned(), 0)));
    placed(files)
}

/// Small trees of any shape.
#[allow(dead_code, reason = "each test binary uses its share of this module")]
pub fn trees() -> impl Strategy<Value = Tree> {
    let name = prop_oneof![4 => "[a-c.!é-]{1,3}", 1 => "[a-b]{250,255}"];
    let path = prop::collection::vec(name, 1..5).prop_map(|parts| parts.join("/"));
    let size = prop_oneof![Just(0u64), 1u64..20_000, Just(5 << 30)];
    prop::collection::vec((path, size), 0..80).prop_map(|files| {
        let mut builder = ImageBuilder::new();
        let sorted: Tree = files.into_iter().map(|(path, size)| (path, (size, None))).collect();
        placed(
            sorted
                .into_iter()
                .filter(|(path, _)| builder.add_file(path, 0, 0).is_ok())
                .map(|(path, (size, _))| (path, size)),
        )
    })
}
