//! A range of a blob, part by part.

use granary_image::{BLOCK_BYTES, ExtentTable, Part};

/// The bytes of a range that belong to one part, and the zeros of the range that follow it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) part: Part,
    /// Blob offset of the first byte.
    pub(crate) offset: u64,
    /// Bytes of the part; 0 if the range holds only zeros that follow it.
    pub(crate) data: usize,
    /// Zeros that follow.
    pub(crate) zeros: usize,
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        self.data + self.zeros
    }
}

/// The pieces of `len` bytes from `offset`, which must lie inside the blob.
pub(crate) fn pieces(table: &ExtentTable, offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let part = table.part_at(at)?;
        let data_end = part.blob_offset + u64::from(part.len);
        let stop = end.min(data_end.next_multiple_of(BLOCK_BYTES));
        let data = stop.min(data_end).saturating_sub(at);
        let piece = Piece { part, offset: at, data: data as usize, zeros: (stop - at - data) as usize };
        at = stop;
        Some(piece)
    })
}
