//! The mark for size: 1,000,000 objects in under 60 s besides the listing itself, and under 1 GiB of memory.

use std::time::Instant;

use granary_image::{ExtentTable, ImageReader, SourceId};

use super::pin;
use crate::{build::build, collect::Collector};

/// Largest resident memory of this process so far, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// `cargo test --release -p granary-index million -- --ignored --nocapture`: alone, since memory is that of the process.
#[test]
#[ignore = "a benchmark: prints time and memory for 1,000,000 objects"]
fn a_million_objects() {
    const COUNT: u64 = 1_000_000;
    for (what, reversed) in [("in order", false), ("out of order", true)] {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let mut collector = Collector::new(SourceId([1; 16]), String::new(), None);
        for i in 0..COUNT {
            let i = if reversed { COUNT - 1 - i } else { i };
            let key = format!("train/images/class-{:05}/sample-image_{i:012}.jpeg", i / 1000);
            collector.add(&key, 50_000 + i % 100_000, &pin(&format!("\"{i:032x}\"")));
        }
        let listed = start.elapsed();
        let indexed = build(vec![collector], &[0], None, "blob".to_owned(), dir.path()).unwrap();
        println!(
            "1,000,000 objects {what}: taken in {listed:?}, all done in {:?}; image {} MiB, extents {} MiB; peak {} MiB",
            start.elapsed(),
            indexed.image.bytes >> 20,
            indexed.extents.bytes >> 20,
            peak_mib(),
        );
        let start = Instant::now();
        let table = ExtentTable::open(&indexed.extents.path).unwrap();
        let image = ImageReader::open(&indexed.image.path).unwrap();
        image.validate(&table).unwrap();
        println!("  table and image checked as a node does: {:?}", start.elapsed());
        assert_eq!((u64::from(table.len()), indexed.file_count, image.inode_count()), (COUNT, COUNT, COUNT + 1003));
        assert!(peak_mib() < 1024, "{} MiB", peak_mib());
    }
}
