mod build;
mod keys;
mod layout;
mod million;

use granary_image::{ExtentTable, ImageReader, Pin, PinKind, SourceId};

use crate::{Indexed, collect::Collector};

pub(super) fn pin(value: &str) -> Pin {
    Pin { kind: PinKind::ETag, value: value.to_owned() }
}

/// A source below `prefix` that lists keys of these sizes, each pinned by its key and size.
pub(super) fn listed(prefix: &str, keys: &[(&str, u64)]) -> Collector {
    let mut collector = Collector::new(SourceId::of(prefix, None), prefix.to_owned(), Some("object.bin"));
    for (key, size) in keys {
        collector.add(key, *size, &pin(&format!("{key}#{size}")));
    }
    collector
}

/// The artifacts read back: path, size, and the key that lies at the file's place in the blob.
pub(super) fn files(indexed: &Indexed) -> Vec<(String, u64, Option<String>)> {
    let table = ExtentTable::open(&indexed.extents.path).unwrap();
    let image = ImageReader::open(&indexed.image.path).unwrap();
    assert_eq!(image.blob_bytes(), indexed.blob_bytes);
    image.validate(&table).unwrap();
    let mut files: Vec<_> = image
        .files()
        .map(|file| {
            let file = file.unwrap();
            let key = file.blob_offset.map(|offset| {
                let extent = table.at(offset).unwrap();
                assert_eq!((extent.offset, extent.size), (offset, file.size), "{}", file.path);
                extent.key.to_owned()
            });
            (file.path, file.size, key)
        })
        .collect();
    files.sort();
    files
}
