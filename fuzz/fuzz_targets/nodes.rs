//! Single steps through an image, as a filesystem in user space makes them: of an image that was checked they show what was
//! checked, and of any other they end. What follows the image is a name.
#![no_main]

use granary_fuzz::seal;
use granary_image::{BLOCK_BYTES, ImageFile, ImageNode, ImageReader};
use libfuzzer_sys::fuzz_target;

/// Nodes of an unchecked image that are looked at: it can have a circle.
const NODES: usize = 200;

fuzz_target!(|data: &[u8]| {
    let (image, name) = granary_fuzz::split_image(data);
    let mut sealed = image.to_vec();
    seal::image(&mut sealed);
    let Ok(image) = ImageReader::from_bytes(sealed) else { return };
    let checked: Option<Vec<ImageFile>> = image.files().collect::<Result<_, _>>().ok();
    let mut found = Vec::new();
    let mut left = if checked.is_some() { usize::MAX } else { NODES };
    if let Ok(root) = image.node(ImageReader::ROOT) {
        let _ = image.find(&root, name);
        // Positions come from who reads the directory.
        let at = name.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        image.entries(&root, at).take(NODES).for_each(drop);
        walk(&image, &root, "", checked.is_some(), &mut left, &mut found);
    }
    if let Some(checked) = checked {
        assert_eq!(found, checked);
    }
});

fn walk(
    image: &ImageReader,
    directory: &ImageNode,
    path: &str,
    is_checked: bool,
    left: &mut usize,
    found: &mut Vec<ImageFile>,
) {
    for entry in image.entries(directory, 0) {
        let Ok(entry) = entry else {
            assert!(!is_checked);
            return;
        };
        let Some(fewer) = left.checked_sub(1) else { return };
        *left = fewer;
        let again = image.find(directory, entry.name);
        assert!(!is_checked || again.is_ok_and(|number| number == Some(entry.number)), "an entry is not found");
        if matches!(entry.name, b"." | b"..") {
            continue;
        }
        let Ok(node) = image.node(entry.number) else {
            assert!(!is_checked);
            continue;
        };
        if let Some(offset) = node.blob_offset {
            assert!(offset % BLOCK_BYTES == 0 && offset + node.size() <= image.blob_bytes());
        }
        let path = format!("{path}{}", String::from_utf8_lossy(entry.name));
        if node.is_directory() {
            walk(image, &node, &format!("{path}/"), is_checked, left, found);
        } else {
            found.push(ImageFile { path, size: node.size(), blob_offset: node.blob_offset });
        }
    }
}
