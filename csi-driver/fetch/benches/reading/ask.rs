//! What is read.

use std::ops::Range;

/// One range of one object.
pub struct Ask {
    pub key: String,
    pub size: u64,
    pub range: Range<u64>,
}

/// A workload: its name, how many requests are under way at once, and all of them.
pub struct Load {
    pub name: &'static str,
    pub at_once: usize,
    pub tls: bool,
    pub asks: Vec<Ask>,
}

/// Ranges of 8 MiB of one big object, eight at a time.
pub fn big(ranges: u64, tls: bool) -> Load {
    const RANGE: u64 = 8 << 20;
    let size = ranges * RANGE;
    let asks = (0..ranges).map(|n| Ask { key: format!("{size}/object"), size, range: n * RANGE..(n + 1) * RANGE });
    let name = if tls { "TLS: ranges of 8 MiB, 8 at once" } else { "ranges of 8 MiB, 8 at once" };
    Load { name, at_once: 8, tls, asks: asks.collect() }
}

/// Objects of 100 KB, 64 at a time.
pub fn small(objects: u64) -> Load {
    const SIZE: u64 = 100_000;
    let asks = (0..objects).map(|n| Ask { key: format!("{SIZE}/train/{n:08}.jpg"), size: SIZE, range: 0..SIZE });
    Load { name: "objects of 100 KB, 64 at once", at_once: 64, tls: false, asks: asks.collect() }
}
