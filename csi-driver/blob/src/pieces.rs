//! A range of a blob, part by part.

use granary_image::{BLOCK_BYTES, ExtentTable, PART_BYTES, Part};

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
///
/// Only the first extent is searched for: a read of many small objects passes over as many extents.
pub(crate) fn pieces(table: &ExtentTable, offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let end = offset + len as u64;
    let mut at = offset;
    let mut extent = if len == 0 { None } else { table.at(offset) };
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let in_object = at - extent?.offset;
        if in_object >= extent?.size.next_multiple_of(BLOCK_BYTES) {
            extent = Some(table.extent(extent?.index + 1));
        }
        let extent = extent?;
        let nth = (at - extent.offset) / PART_BYTES;
        let object_offset = nth * PART_BYTES;
        let part = Part {
            number: extent.first_part + nth,
            extent: extent.index,
            object_offset,
            blob_offset: extent.offset + object_offset,
            len: PART_BYTES.min(extent.size - object_offset) as u32,
        };
        let data_end = part.blob_offset + u64::from(part.len);
        let stop = end.min(data_end.next_multiple_of(BLOCK_BYTES));
        let data = stop.min(data_end).saturating_sub(at);
        let piece = Piece { part, offset: at, data: data as usize, zeros: (stop - at - data) as usize };
        at = stop;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::tests::support::table;

    proptest! {
        #[test]
        fn pieces_are_the_parts_of_the_range(
            sizes in vec(prop_oneof![1u64..10_000, Just(4096), Just(PART_BYTES), 1..3 * PART_BYTES], 1..20),
            (from, to) in (0.0..1.0, 0.0..1.0),
        ) {
            let keys: Vec<String> = (0..sizes.len()).map(|n| n.to_string()).collect();
            let objects: Vec<_> = keys.iter().map(String::as_str).zip(sizes).collect();
            let table = table("b", &objects);
            let place = |share: f64| (share * table.blob_bytes() as f64) as u64;
            let (start, end) = (place(from).min(place(to)), place(from).max(place(to)));
            let mut at = start;
            for piece in pieces(&table, start, (end - start) as usize) {
                prop_assert_eq!(piece.offset, at);
                prop_assert_eq!(Some(piece.part), table.part_at(at));
                prop_assert_eq!(piece.part, table.part(piece.part.number));
                let data_end = piece.part.blob_offset + u64::from(piece.part.len);
                prop_assert_eq!(piece.data as u64, data_end.min(end).saturating_sub(at));
                prop_assert!(piece.len() > 0 && piece.zeros < BLOCK_BYTES as usize);
                at += piece.len() as u64;
            }
            prop_assert_eq!(at, end);
        }
    }
}
