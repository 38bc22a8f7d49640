//! Entry of a fuzz target in `fuzz/`, and there only: keys that anybody may have chosen.

use std::collections::BTreeMap;

use granary_image::{ExtentTable, ImageReader, Pin, PinKind, SourceId, TableBuilder, is_file_path};

use crate::{
    build::{Placed, place},
    collect::Collector,
};

/// Indexes `objects`, keys and sizes, and compares the image's files with what the rules for keys say.
pub fn keys(objects: &[(String, u64)]) {
    let pin = Pin { kind: PinKind::SizeOnly, value: String::new() };
    let mut collector = Collector::new(SourceId([1; 16]), String::new(), None);
    for (key, size) in objects {
        collector.add(key, *size, &pin);
    }
    collector.settle();
    // A blob can be too small for the objects; every other listing has an image.
    let Ok(Placed { table, image, .. }) = place(&[&collector], TableBuilder::new("blob".to_owned())) else { return };
    let (mut table_bytes, mut image_bytes) = (Vec::new(), Vec::new());
    let summary = table.finish(&mut table_bytes).expect("the table can be written");
    image.finish(summary.blob_bytes, &mut image_bytes).expect("the image can be written");
    let table = ExtentTable::from_bytes(table_bytes).expect("what was written can be read");
    let image = ImageReader::from_bytes(image_bytes).expect("what was written can be read");
    image.validate(&table).expect("what was written is valid");
    let found: BTreeMap<String, u64> =
        image.files().map(|file| file.expect("what was written is valid")).map(|file| (file.path, file.size)).collect();
    assert_eq!(found, expected(objects));
}

/// The rules of `docs/formats.md`, in another way.
fn expected(objects: &[(String, u64)]) -> BTreeMap<String, u64> {
    let usable = |(key, _): &&(String, u64)| is_file_path(key);
    let files: BTreeMap<String, u64> = objects.iter().filter(usable).cloned().collect();
    let has_files_below = |key: &str| {
        let below = format!("{key}/");
        files.range(below.clone()..).next().is_some_and(|(other, _)| other.starts_with(&below))
    };
    files.iter().filter(|(key, _)| !has_files_below(key)).map(|(key, size)| (key.clone(), *size)).collect()
}
