//! Images: what is written is read back, the same input gives the same bytes, damage is noticed.

mod common;

use common::{Tree, awkward, blob_bytes, image, placed, read_back, trees};
use granary_image::{ExtentTable, ImageBuilder, ImageError, ImageReader, Object, Pin, PinKind, SourceId, TableBuilder};
use proptest::prelude::*;

#[test]
fn awkward_trees_are_read_back() {
    let tree = awkward();
    let (bytes, summary) = image(&tree);
    assert_eq!(read_back(bytes.clone()), tree);
    let reader = ImageReader::from_bytes(bytes).unwrap();
    assert_eq!(reader.blob_bytes(), blob_bytes(&tree));
    assert_eq!(reader.inode_count(), summary.file_count + summary.directory_count);
}

#[test]
fn the_empty_image_is_valid() {
    let (bytes, summary) = image(&Tree::new());
    assert_eq!((summary.file_count, summary.directory_count, bytes.len()), (0, 1, 8192));
    assert_eq!(read_back(bytes), Tree::new());
}

#[test]
fn the_same_files_give_the_same_bytes() {
    assert!(image(&awkward()).0 == image(&awkward()).0);
}

/// A change of the bytes written for given files changes the digests of every dataset: it must be meant.
#[test]
fn the_format_is_pinned() {
    let tree =
        placed([("a/b".to_owned(), 5), ("a.b".to_owned(), 5000), ("c".to_owned(), 0), ("big".to_owned(), 5 << 30)]);
    let digest = image(&tree).1.digest.to_string();
    assert_eq!(digest, "sha256:acac2363e7486bcb61c829c7736820570410ccacbeb14bc01f3674bbf5fb897b");
}

#[test]
fn files_larger_than_4_gib_and_blobs_up_to_the_limit_are_placed() {
    let tree = placed([("a".to_owned(), 10 << 40), ("b".to_owned(), 5 << 40), ("c".to_owned(), u64::from(u32::MAX))]);
    assert_eq!(read_back(image(&tree).0), tree);
    let mut builder = ImageBuilder::new();
    builder.add_file("a", 16 << 40, 0).unwrap();
    assert!(matches!(builder.finish(16 << 40, &mut Vec::new()), Err(ImageError::TooLarge)));
}

#[test]
fn a_directory_with_many_subdirectories_has_its_link_count() {
    let tree = placed((0..70_000).map(|i| (format!("d{i:05}/f"), 0)));
    let (bytes, summary) = image(&tree);
    assert_eq!(summary.directory_count, 70_001);
    assert_eq!(read_back(bytes), tree);
}

#[test]
fn paths_that_are_none_are_refused() {
    let long_name = "x".repeat(256);
    let long_path = "x/".repeat(2048);
    for path in ["", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "a\0b", &long_name, &(long_path + "x")] {
        assert!(matches!(ImageBuilder::new().add_file(path, 1, 0), Err(ImageError::Path(_))), "{path:?}");
    }
}

#[test]
fn a_name_is_a_file_or_a_folder() {
    let mut builder = ImageBuilder::new();
    for path in ["a", "a-", "a.b", "a.b.c"] {
        builder.add_file(path, 0, 0).unwrap();
    }
    for path in ["a.b/x", "a.b/y/z", "a/b", "a/c/d"] {
        assert!(matches!(builder.add_file(path, 0, 0), Err(ImageError::FileAndFolder(_))), "{path}");
    }
    builder.add_file("ab/c", 0, 0).unwrap();
    let mut bytes = Vec::new();
    builder.finish(0, &mut bytes).unwrap();
    assert_eq!(read_back(bytes).into_keys().collect::<Vec<_>>(), ["a", "a-", "a.b", "a.b.c", "ab/c"]);
}

#[test]
fn paths_come_in_order_and_once() {
    for (first, second) in [("a", "a"), ("b", "a"), ("a/b", "a.b"), ("a/b", "a/a/c")] {
        let mut builder = ImageBuilder::new();
        builder.add_file(first, 0, 0).unwrap();
        assert!(matches!(builder.add_file(second, 0, 0), Err(ImageError::Order(_))), "{first} {second}");
    }
}

#[test]
fn places_outside_of_the_blob_are_refused() {
    assert!(matches!(ImageBuilder::new().add_file("a", 1, 5), Err(ImageError::Place(_))));
    assert!(matches!(ImageBuilder::new().add_file("a", u64::MAX, 4096), Err(ImageError::Place(_))));
    for blob_bytes in [4096, 8193] {
        let mut builder = ImageBuilder::new();
        builder.add_file("a", 4097, 0).unwrap();
        assert!(matches!(builder.finish(blob_bytes, &mut Vec::new()), Err(ImageError::BlobLength { .. })));
    }
}

#[test]
fn an_image_is_read_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    assert!(matches!(ImageReader::open(&path), Err(ImageError::Open { .. })));
    for short in [vec![], vec![0; 5000]] {
        std::fs::write(&path, short).unwrap();
        assert!(matches!(ImageReader::open(&path), Err(ImageError::Damaged(_))));
    }
    std::fs::write(&path, image(&awkward()).0).unwrap();
    assert_eq!(ImageReader::open(&path).unwrap().files().count(), awkward().len());
}

#[test]
fn flipped_bits_and_cuts_are_noticed() {
    let tree = placed([("d/e".to_owned(), 5), ("f".to_owned(), 5)]);
    let bytes = image(&tree).0;
    let mut noticed = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let Ok(reader) = ImageReader::from_bytes(damaged) else {
            noticed += 1;
            continue;
        };
        assert!(at >= 4096, "the superblock is checked as a whole, byte {at}");
        noticed += usize::from(reader.files().any(|file| file.is_err()));
    }
    assert!(noticed > 4096 + 100, "{noticed}");
    for len in [0, 1, 4096, bytes.len() - 1] {
        assert!(ImageReader::from_bytes(bytes[..len].to_vec()).is_err(), "{len}");
    }
}

/// In the image of `d/e` and `f`: the root's inode, its entries, the inodes of `f`, `d` (and its entries) and `e`.
const ROOT: usize = 4096;
const ROOT_ENTRIES: usize = ROOT + 32;
const ROOT_NAMES: usize = ROOT_ENTRIES + 4 * 12;
const INODE_F: usize = ROOT + 96;
const INODE_D: usize = INODE_F + 32;
const INODE_E: usize = INODE_D + 96;

#[test]
fn each_kind_of_damage_has_its_name() {
    let bytes = image(&placed([("d/e".to_owned(), 5), ("f".to_owned(), 5)])).0;
    let table: &[(usize, &[u8], &str)] = &[
        (ROOT_ENTRIES, &[5], "'.' or '..' leads elsewhere"),
        (ROOT_ENTRIES + 12, &[5], "'.' or '..' leads elsewhere"),
        (ROOT_ENTRIES + 24, &128u64.to_le_bytes(), "a directory is reached twice"),
        (ROOT_ENTRIES + 36, &[0; 8], "an inode is none that Granary writes"),
        (ROOT_ENTRIES + 36, &[0xff; 8], "an inode is none that Granary writes"),
        (ROOT_ENTRIES + 24 + 10, &[1], "an entry and its inode are of different kinds"),
        (ROOT_ENTRIES + 24 + 10, &[7], "a directory's block is none that Granary writes"),
        (ROOT_ENTRIES + 8, &[13], "a directory's block is none that Granary writes"),
        (ROOT_ENTRIES + 8, &[0], "a directory's block is none that Granary writes"),
        (ROOT_ENTRIES + 12 + 8, &[0], "a directory's block is none that Granary writes"),
        (ROOT_ENTRIES + 24 + 8, &[0xff, 0xff], "a directory's block is none that Granary writes"),
        (ROOT_NAMES + 3, b"g", "a directory's names are not in order"),
        (ROOT_NAMES + 3, b"f", "a directory's names are not in order"),
        (ROOT_NAMES + 3, b"/", "a path is none that can be opened"),
        (ROOT_NAMES + 3, b"\0", "a directory's block is none that Granary writes"),
        (ROOT_NAMES + 4, b"\xff", "a name is not UTF-8"),
        (ROOT + 4, &0o100444u16.to_le_bytes(), "an inode is none that Granary writes"),
        (ROOT + 8, &[0], "a directory lacks '.' or '..', or its link count is wrong"),
        (ROOT + 9, &[0x0f], "a directory's block is none that Granary writes"),
        (ROOT + 8, &[0xff, 0x0f], "a directory's tail crosses a block"),
        (ROOT + 9, &[0x1f], "a directory lies outside of the image"),
        (INODE_F + 4, &0o100644u16.to_le_bytes(), "an inode is none that Granary writes"),
        (INODE_F + 24, &[1], "an inode is none that Granary writes"),
        (INODE_F + 16, &[0; 4], "a file lies outside of the blob"),
        (INODE_E + 9, &[0x20], "a file lies outside of the blob"),
        (INODE_D + 6, &[3], "a directory lacks '.' or '..', or its link count is wrong"),
    ];
    for (at, patch, expected) in table {
        let mut damaged = bytes.clone();
        damaged[*at..at + patch.len()].copy_from_slice(patch);
        let error = ImageReader::from_bytes(damaged).unwrap().files().find_map(Result::err);
        assert!(
            matches!(error, Some(ImageError::Damaged(message)) if message == *expected),
            "{at} {patch:?}: {error:?}"
        );
    }
}

#[test]
fn an_image_must_fit_its_table() {
    let table = |sizes: &[u64]| {
        let mut builder = TableBuilder::new("b".to_owned());
        for (index, &size) in sizes.iter().enumerate() {
            let pin = Pin { kind: PinKind::ETag, value: String::new() };
            builder.allocate(&Object { source: SourceId([0; 16]), key: index.to_string(), pin, size }).unwrap();
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes).unwrap();
        ExtentTable::from_bytes(bytes).unwrap()
    };
    let tree = placed([("a".to_owned(), 5), ("b".to_owned(), 5000), ("empty".to_owned(), 0)]);
    let image = ImageReader::from_bytes(image(&tree).0).unwrap();
    image.validate(&table(&[5, 5000])).unwrap();
    image.validate(&table(&[5, 5000, 1])).unwrap();
    for other in [&[5][..], &[6, 5000], &[5, 5001], &[5, 4096, 1], &[12_000]] {
        assert!(matches!(image.validate(&table(other)), Err(ImageError::Damaged(_))), "{other:?}");
    }
}

proptest! {
    #[test]
    fn any_tree_is_read_back(tree in trees()) {
        prop_assert_eq!(read_back(image(&tree).0), tree);
    }

    #[test]
    fn hostile_images_never_panic_and_end(
        tree in trees(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = image(&tree).0;
        let inodes = 4096..bytes.len();
        for (at, value) in changes {
            bytes[inodes.start + at.index(inodes.len().min(4096))] = value;
        }
        let reader = ImageReader::from_bytes(bytes).unwrap();
        prop_assert!(reader.files().count() as u64 <= reader.inode_count());
    }

    #[test]
    fn hostile_superblocks_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..9000), keep in 0usize..1200) {
        let good = image(&Tree::new()).0;
        let keep = keep.min(bytes.len());
        bytes[..keep].copy_from_slice(&good[..keep]);
        if let Ok(reader) = ImageReader::from_bytes(bytes) {
            reader.files().count();
        }
    }
}
