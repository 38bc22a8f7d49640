//! A zstd frame, as the image store and its clients get them. The first two bytes say how much may come out of it, in 64 bytes.
#![no_main]

use granary_crds::exchange::coding::{Decompressor, content_length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((limit, frame)) = data.split_first_chunk() else { return };
    let limit = u64::from(u16::from_le_bytes(*limit)) * 64;
    content_length(frame);
    // What is no frame may be noticed when it comes at once and not when it comes in pieces: an empty block that ends one which says
    // that it is longer. The digest tells then.
    if let (Some(whole), Some(pieces)) = (decompress(frame, limit, frame.len()), decompress(frame, limit, 7)) {
        assert!(whole == pieces, "it depends on how the body comes");
    }
});

/// What comes out of `frame`, which comes in pieces.
fn decompress(frame: &[u8], limit: u64, piece: usize) -> Option<Vec<u8>> {
    let mut decompressor = Decompressor::new(limit).expect("there is memory");
    let mut content = Vec::new();
    for mut piece in frame.chunks(piece.max(1)) {
        while let Some(bytes) = decompressor.step(&mut piece).ok()? {
            content.extend_from_slice(bytes);
            assert!(content.len() as u64 <= limit);
        }
    }
    let length = decompressor.finish().ok()?;
    assert_eq!(content.len() as u64, length);
    Some(content)
}
