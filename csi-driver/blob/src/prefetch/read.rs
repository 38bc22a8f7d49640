//! A demand read and where it lies among the files.

use granary_image::{BLOCK_BYTES, Extent, ExtentTable, PART_BYTES};

/// One demand read; ends are exclusive, and files are block-rounded as in the blob.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Index of the file that `offset` lies in.
    pub(super) first: u32,
    /// Index of the file that the last byte lies in.
    pub(super) last: u32,
    /// Where the file that the last byte lies in ends.
    pub(super) last_end: u64,
    /// Files whose first byte was read.
    pub(super) starts: u32,
}

impl Read {
    /// `None` if the range is empty or begins beyond the blob's end.
    pub(super) fn new(table: &ExtentTable, offset: u64, len: u64) -> Option<Self> {
        let end = offset.saturating_add(len).min(table.blob_bytes());
        let first = table.at(offset).filter(|_| offset < end)?;
        let last = if end <= end_of(&first) { first } else { table.at(end - 1)? };
        let starts = last.index - first.index + u32::from(offset == first.offset);
        Some(Self { offset, end, first: first.index, last: last.index, last_end: end_of(&last), starts })
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.offset
    }

    /// Whether it begins a file that it does not end.
    pub(super) fn opens(&self) -> bool {
        self.starts > 0 && self.end < self.last_end
    }

    /// Whether it is the beginning of a file, or of several ones, that fit into one part together.
    pub(super) fn is_of_small_files(&self) -> bool {
        self.starts > self.last - self.first && self.last_end - self.offset <= PART_BYTES
    }
}

/// Where the file's blocks end.
pub(super) fn end_of(extent: &Extent<'_>) -> u64 {
    extent.offset + extent.size.next_multiple_of(BLOCK_BYTES)
}
