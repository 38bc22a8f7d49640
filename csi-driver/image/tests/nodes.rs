//! Single steps through an image lead to the same tree as the walk that checks it.

mod common;

use std::collections::BTreeMap;

use common::{Tree, awkward, image, trees};
use granary_image::{BLOCK_BYTES, ImageNode, ImageReader};
use proptest::prelude::*;

fn reader(tree: &Tree) -> ImageReader {
    ImageReader::from_bytes(image(tree).0).unwrap()
}

/// All files below `directory`, by listing directories; every entry is found by its name too, and every position goes on
/// where it shall.
fn walk(reader: &ImageReader, directory: &ImageNode, parent: u64, prefix: &str, found: &mut Tree) {
    let entries: Vec<_> = reader.entries(directory, 0).map(Result::unwrap).collect();
    let mut subdirectories = 0;
    for (nth, entry) in entries.iter().enumerate() {
        assert_eq!(reader.find(directory, entry.name).unwrap(), Some(entry.number));
        if nth % 97 == 0 {
            let rest: Vec<_> = reader.entries(directory, entry.next).map(Result::unwrap).collect();
            assert!(rest == entries[nth + 1..], "after entry {nth}");
        }
        let node = reader.node(entry.number).unwrap();
        assert_eq!((node.number, node.is_directory()), (entry.number, entry.is_directory));
        match entry.name {
            b"." => assert_eq!(entry.number, directory.number),
            b".." => assert_eq!(entry.number, parent),
            name => {
                let path = format!("{prefix}{}", str::from_utf8(name).unwrap());
                if entry.is_directory {
                    subdirectories += 1;
                    walk(reader, &node, directory.number, &format!("{path}/"), found);
                } else {
                    assert_eq!(node.links(), 1);
                    assert_eq!(found.insert(path, (node.size(), node.blob_offset)), None);
                }
            }
        }
    }
    assert_eq!(directory.links(), subdirectories + 2);
}

fn walked(reader: &ImageReader) -> Tree {
    let (root, mut found) = (reader.node(ImageReader::ROOT).unwrap(), BTreeMap::new());
    walk(reader, &root, ImageReader::ROOT, "", &mut found);
    found
}

fn at<'a>(reader: &ImageReader, path: impl IntoIterator<Item = &'a str>) -> Option<ImageNode> {
    let mut node = reader.node(ImageReader::ROOT).unwrap();
    for name in path {
        node = reader.node(reader.find(&node, name.as_bytes()).unwrap()?).unwrap();
    }
    Some(node)
}

#[test]
fn awkward_trees_are_walked() {
    let tree = awkward();
    assert!(walked(&reader(&tree)) == tree);
    assert!(walked(&reader(&Tree::new())).is_empty());
}

#[test]
fn names_that_are_not_there_are_not_found() {
    let reader = reader(&awkward());
    for path in [&["a"][..], &["many", "file-00000.jp"], &["many", "file-99999.jpg"], &["many", "!"], &["zero", "x"]] {
        assert_eq!(at(&reader, path.iter().copied()), None, "{path:?}");
    }
    let file = at(&reader, ["zero"]).unwrap();
    assert_eq!(reader.entries(&file, 0).count(), 0);
}

#[test]
fn positions_and_numbers_that_nobody_was_given_are_harmless() {
    let reader = reader(&awkward());
    let many = at(&reader, ["many"]).unwrap();
    let all = reader.entries(&many, 0).count();
    for position in [1, 340, 341, 4095, BLOCK_BYTES, 5 * BLOCK_BYTES + 4000, u64::MAX, u64::MAX - BLOCK_BYTES] {
        let some: Vec<_> = reader.entries(&many, position).map(Result::unwrap).collect();
        assert!(some.len() < all, "at {position}");
    }
    for number in [0, 1, ImageReader::ROOT - 1, u64::from(u32::MAX), u64::MAX] {
        reader.node(number).unwrap_err();
    }
}

proptest! {
    #[test]
    fn any_tree_is_walked(tree in trees()) {
        prop_assert_eq!(walked(&reader(&tree)), tree);
    }

    #[test]
    fn no_step_through_a_damaged_image_panics_or_goes_on_for_ever(
        tree in trees(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        number in 128u64..260,
        from: u64,
    ) {
        let mut bytes = image(&tree).0;
        for (at, value) in changes {
            let inodes = (bytes.len() - 4096).min(4096);
            bytes[4096 + at.index(inodes)] = value;
        }
        let most = bytes.len() / 12 + 1;
        let reader = ImageReader::from_bytes(bytes).unwrap();
        for number in [number, ImageReader::ROOT] {
            let Ok(node) = reader.node(number) else { continue };
            let _ = reader.find(&node, b"b");
            for from in [0, from] {
                prop_assert!(reader.entries(&node, from).count() <= most);
            }
        }
    }
}
