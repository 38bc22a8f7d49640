//! Whatever is read, advice makes sense.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::simulator::{KIB, MIB, files};
use crate::prefetch::{Advice, Prefetcher};

proptest! {
    #[test]
    fn advice_lies_in_the_blob(
        sizes in vec(prop_oneof![1..200 * KIB, MIB..100 * MIB], 1..60),
        reads in vec((0.0..1.1, prop_oneof![Just(0), 1..MIB, Just(MIB)], 0..5u64, 0..3000u64, 0..4 * MIB), 1..60),
    ) {
        let table = files(sizes);
        let mut prefetcher = Prefetcher::default();
        let mut now = Duration::ZERO;
        for (place, len, more, pause, bytes) in reads {
            let offset = (place * table.blob_bytes() as f64) as u64 / 4096 * 4096;
            now += Duration::from_millis(pause);
            for n in 0..=more {
                match prefetcher.on_read(&table, offset + n * len, len, now) {
                    Advice::Ahead(range) => {
                        prop_assert!(range.start < range.end && range.end <= table.blob_bytes());
                        prop_assert!(range.end - range.start <= 64 * MIB);
                    }
                    Advice::Everything => prop_assert!(prefetcher.fill(now).is_some()),
                    Advice::Nothing => {}
                }
            }
            if let Some(fill) = prefetcher.fill(now) {
                prop_assert!(fill.within.start < fill.within.end && fill.within.end <= table.blob_bytes());
            }
            if more % 2 == 0 { prefetcher.useful(bytes) } else { prefetcher.useless(bytes) }
        }
    }
}
