//! Which parts of a blob the files of an image need.

use std::ops::Range;

use crate::{ExtentTable, ImageError, ImageReader};

/// A set of part numbers, as few ranges as it can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartRanges(Vec<Range<u64>>);

impl PartRanges {
    /// The ranges, in ascending order; none is empty, and none begins where another ends.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// Number of parts.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there is no part.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether part `number` is one of them.
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|range| range.end <= number);
        self.0.get(at).is_some_and(|range| range.contains(&number))
    }

    /// The number after the last part; 0 if there is none.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }
}

impl FromIterator<Range<u64>> for PartRanges {
    /// In any order; ranges may be empty, touch and overlap.
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                // Files mostly come in the order of their objects, so most are merged at once.
                Some(last) if last.end == range.start => last.end = range.end.max(last.end),
                _ if range.is_empty() => {}
                _ => merged.push(range),
            }
        }
        merged.sort_unstable_by_key(|range| range.start);
        merged.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        merged.shrink_to_fit();
        Self(merged)
    }
}

/// The parts that the files of `image` lie in. A version can leave out objects that older ones of its blob have.
///
/// Every file must be an object of `table`, as [`ImageReader::validate`] makes sure.
pub fn parts_of(image: &ImageReader, table: &ExtentTable) -> Result<PartRanges, ImageError> {
    let mut next = 0;
    let mut failed = None;
    let parts = image.files().map_while(|file| {
        let found = file.and_then(|file| match file.blob_offset {
            Some(offset) => table.object_at(&mut next, offset).map(|object| object.parts).ok_or(FOREIGN_FILE),
            None => Ok(0..0),
        });
        found.map_err(|error| failed = Some(error)).ok()
    });
    let parts = parts.collect();
    failed.map_or(Ok(parts), Err)
}

pub(crate) const FOREIGN_FILE: ImageError = ImageError::Damaged("a file is no object of the extent table");
