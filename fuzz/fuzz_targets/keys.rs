//! The keys of a bucket, which anybody who may write to it chooses: each a byte for the size, one for the length, and the key.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut objects = Vec::new();
    let mut rest = data;
    while let Some(([size, length], tail)) = rest.split_first_chunk() {
        let (key, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        objects.push((String::from_utf8_lossy(key).into_owned(), size_of(*size)));
        rest = tail;
    }
    granary_index::fuzz::keys(&objects);
});

/// Sizes of all orders, with small ones among them.
fn size_of(byte: u8) -> u64 {
    match byte {
        0..=63 => u64::from(byte),
        64..=127 => 1 << (byte - 64),
        _ => u64::from(byte) << 12,
    }
}
