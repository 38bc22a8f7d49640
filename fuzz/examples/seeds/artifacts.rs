//! Seeds of what Granary itself writes: images, tables, parts files, compressed bodies.

use granary_crds::exchange::coding::compress;
use granary_fuzz::seal;
use granary_image::{ImageBuilder, Object, Pin, PinKind, SourceId, TableBuilder};

use super::{Outcome, seed};

/// The superblock's block and one of inodes, in bytes.
const SMALLEST_IMAGE: usize = 8192;

/// Files of a version: path and size.
type Files = Vec<(String, u64)>;

pub fn write() -> Outcome {
    let many = (0..40).map(|n| (format!("directory/with-a-name-that-takes-room-{n:03}"), 1 + n)).collect();
    for (name, files) in [
        ("empty", Files::new()),
        ("one", vec![("file".to_owned(), 5)]),
        ("tree", ["a/b/c", "a/b/d", "a/e", "z"].map(|path| (path.to_owned(), 3 << 20)).to_vec()),
        ("sizes", [("0", 0), ("4096", 4096), ("5g", 5 << 30)].map(|(path, size)| (path.to_owned(), size)).to_vec()),
        ("many", many),
    ] {
        let (image, table) = version(&files)?;
        if image.len() == SMALLEST_IMAGE {
            seed("nodes", name, [image.as_slice(), b"a"].concat())?;
        }
        seed("image", name, [image, table.clone()].concat())?;
        seed("extents", name, table)?;
    }
    for (name, entries) in [("none", &[][..]), ("few", &[0, 1, 2, 7]), ("two-pages", &[3, 30, 31, 40])] {
        seed("cache", name, [vec![255], parts_file(entries)].concat())?;
    }
    for (name, text) in [("format", "granary-cache 1\n"), ("other-format", "granary-cache 7\n"), ("none-of-ours", "x")]
    {
        seed("cache", name, [&[0], text.as_bytes()].concat())?;
    }
    for (name, content) in
        [("nothing", Vec::new()), ("zeros", vec![0; 3000]), ("text", b"some text, some text".to_vec())]
    {
        let mut frame = 0x100_u16.to_le_bytes().to_vec();
        compress(content.as_slice(), content.len() as u64, &mut frame)?;
        seed("coding", name, frame)?;
    }
    keys()
}

fn version(files: &Files) -> Outcome<(Vec<u8>, Vec<u8>)> {
    let (mut table, mut image) = (TableBuilder::new("blob".to_owned()), ImageBuilder::new());
    let kinds = [PinKind::ETag, PinKind::VersionId, PinKind::ModificationTime, PinKind::SizeOnly];
    for ((path, size), kind) in files.iter().zip(kinds.into_iter().cycle()) {
        let (source, key) = (SourceId([kind as u8; 16]), path.clone());
        let pin = Pin { kind, value: "\"pin\"".to_owned() };
        let offset = if *size == 0 { 0 } else { table.allocate(&Object { source, key, pin, size: *size })? };
        image.add_file(path, *size, offset)?;
    }
    let (mut image_bytes, mut table_bytes) = (Vec::new(), Vec::new());
    let blob_bytes = table.finish(&mut table_bytes)?.blob_bytes;
    image.finish(blob_bytes, &mut image_bytes)?;
    Ok((image_bytes, table_bytes))
}

/// As `docs/formats.md` does not say, since it is a node's own: a header, then pages of 31 entries.
fn parts_file(parts: &[usize]) -> Vec<u8> {
    const PAGE: usize = 512;
    let pages = 1 + parts.iter().max().map_or(0, |last| 1 + last / 31);
    let mut bytes = vec![0; pages * PAGE];
    bytes[8..16].copy_from_slice(b"GRNPARTS");
    bytes[16..20].copy_from_slice(&2_u32.to_le_bytes());
    bytes[20..24].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes[32..36].copy_from_slice(b"blob");
    for part in parts {
        let page = (1 + part / 31) * PAGE;
        bytes[page + 4..page + 12].copy_from_slice(&(page as u64 / PAGE as u64).to_le_bytes());
        let entry = page + 16 + part % 31 * 16;
        for (field, value) in [*part as u32 * 2, 5000, 0, 1].into_iter().enumerate() {
            bytes[entry + 4 * field..entry + 4 * field + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    seal::parts(&mut bytes);
    bytes
}

fn keys() -> Outcome {
    for (name, objects) in [
        ("tree", &[("a/b", 1), ("a/c", 64), ("d", 0), ("d/e", 100)][..]),
        ("odd", &[("", 0), ("a/", 0), ("a/", 1), ("a//b", 1), ("../x", 1), (".", 1), ("é\n", 1), ("/", 3)]),
        ("twice", &[("b", 1), ("a", 1), ("b", 2), ("a.b", 1), ("a/b", 1)]),
        ("large", &[("a", 105), ("b", 100), ("c", 200)]),
    ] {
        let bytes = objects.iter().flat_map(|(key, size)| [&[*size, key.len() as u8], key.as_bytes()].concat());
        seed("keys", name, bytes.collect::<Vec<u8>>())?;
    }
    Ok(())
}
