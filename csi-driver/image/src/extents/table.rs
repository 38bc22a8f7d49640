use std::{fmt, ops::Range, path::Path, sync::Arc};

use super::{
    TableError,
    format::{FORMAT, HEADER_BYTES, Header, MAGIC, MAX_BLOB_BYTES, RECORD_BYTES, Record, SOURCE_BYTES, u32_at},
};
use crate::{Digest, Object, PART_BYTES, Pin, PinKind, SourceId, mapped::Mapped};

/// A [`Pin`] that borrows its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PinRef<'a> {
    /// What `value` is.
    pub kind: PinKind,
    /// See [`Pin::value`].
    pub value: &'a str,
}

impl PinRef<'_> {
    /// A copy that owns its value.
    pub fn to_pin(&self) -> Pin {
        Pin { kind: self.kind, value: self.value.to_owned() }
    }
}

/// One object and its place in the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent<'a> {
    /// Position in the table.
    pub index: u32,
    /// The source that has the object.
    pub source: SourceId,
    /// See [`Object::key`].
    pub key: &'a str,
    /// Ties the key to its bytes.
    pub pin: PinRef<'a>,
    /// Length of the object in bytes; never 0.
    pub size: u64,
    /// First byte in the blob, a multiple of [`BLOCK_BYTES`](crate::BLOCK_BYTES).
    pub offset: u64,
    /// Number of the object's first part.
    pub first_part: u64,
}

impl Extent<'_> {
    /// A copy that owns its strings, without its place.
    pub fn to_object(&self) -> Object {
        Object { source: self.source, key: self.key.to_owned(), pin: self.pin.to_pin(), size: self.size }
    }
}

/// At most [`PART_BYTES`] of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number in the blob, from 0.
    pub number: u64,
    /// The extent it is of.
    pub extent: u32,
    /// First byte in the object.
    pub object_offset: u64,
    /// First byte in the blob.
    pub blob_offset: u64,
    /// Length in bytes. An object's last part may be shorter than the others, and zeros follow it up to the next block.
    pub len: u32,
}

/// Where one object lies, without its names.
pub(crate) struct ObjectPlace {
    pub(crate) size: u64,
    pub(crate) parts: Range<u64>,
}

/// A validated table, read in place. Clones share it.
#[derive(Clone)]
pub struct ExtentTable {
    inner: Arc<Inner>,
}

struct Inner {
    bytes: Mapped,
    header: Header,
    records: usize,
    heap: usize,
}

impl ExtentTable {
    /// Maps and validates the table at `path`. Everything in it is checked, so that no later call can fail.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let bytes = Mapped::open(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
        Self::validated(bytes)
    }

    /// Validates a table that lies in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, TableError> {
        Self::validated(Mapped::Memory(bytes))
    }

    /// Name of the address space; fit to be a directory's name.
    pub fn blob_id(&self) -> &str {
        &self.inner.header.blob_id
    }

    /// Number of extents.
    pub fn len(&self) -> u32 {
        self.inner.header.extent_count
    }

    /// Whether no object has a place: the blob is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the blob in bytes, a multiple of [`BLOCK_BYTES`](crate::BLOCK_BYTES).
    pub fn blob_bytes(&self) -> u64 {
        self.inner.header.blob_bytes
    }

    /// Number of parts of all extents.
    pub fn part_count(&self) -> u64 {
        self.inner.header.part_count
    }

    /// Content address of the table.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.inner.bytes)
    }

    /// The sources that the extents name, in the order of their first use.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = SourceId> + '_ {
        self.inner.bytes[HEADER_BYTES..self.inner.records].chunks_exact(SOURCE_BYTES).map(source_id)
    }

    /// The extents in the order of their offsets.
    pub fn extents(&self) -> impl ExactSizeIterator<Item = Extent<'_>> {
        (0..self.len()).map(|index| self.extent(index))
    }

    /// The extent at `index`, which must be below [`len`](Self::len): panics otherwise.
    pub fn extent(&self, index: u32) -> Extent<'_> {
        let record = self.record(index);
        let source = HEADER_BYTES + usize::from(record.source) * SOURCE_BYTES;
        let (key, pin) = self.strings(&record);
        Extent {
            index,
            source: source_id(&self.inner.bytes[source..source + SOURCE_BYTES]),
            key,
            pin: PinRef { kind: record.pin_kind, value: pin },
            size: record.size,
            offset: record.offset(),
            first_part: record.first_part,
        }
    }

    /// The extent whose block-rounded range holds the blob's byte `offset`; `None` at and beyond the blob's end.
    pub fn at(&self, offset: u64) -> Option<Extent<'_>> {
        (offset < self.blob_bytes()).then(|| self.extent(self.last_where(|record| record.offset() <= offset)))
    }

    /// The object that begins at `offset`. `next` is the index that is tried first, and then the one after the object's:
    /// who asks in the table's order needs no search.
    pub(crate) fn object_at(&self, next: &mut u32, offset: u64) -> Option<ObjectPlace> {
        if offset >= self.blob_bytes() {
            return None;
        }
        let is_next = *next < self.len() && self.record(*next).offset() == offset;
        let index = if is_next { *next } else { self.last_where(|record| record.offset() <= offset) };
        let record = self.record(index);
        *next = index + 1;
        let parts = record.first_part..record.first_part + record.parts();
        (record.offset() == offset).then_some(ObjectPlace { size: record.size, parts })
    }

    /// Gives back the memory of what was read of a mapped table; it is read again when it is needed.
    pub fn release_pages(&self) {
        self.inner.bytes.release_pages();
    }

    /// The part of this number, which must be below [`part_count`](Self::part_count): panics otherwise.
    pub fn part(&self, number: u64) -> Part {
        assert!(number < self.part_count(), "part {number} of a table with {} parts", self.part_count());
        let index = self.last_where(|record| record.first_part <= number);
        part_of(index, &self.record(index), number)
    }

    /// As [`part`](Self::part), without a search for who asks in ascending order: `extent` is the index that was found last.
    pub fn part_near(&self, extent: &mut u32, number: u64) -> Part {
        let has = |index: &u32| {
            let first = self.record(*index).first_part;
            (first..first + self.record(*index).parts()).contains(&number)
        };
        match (*extent..self.len()).take(2).find(has) {
            Some(index) => {
                *extent = index;
                part_of(index, &self.record(index), number)
            }
            None => {
                let part = self.part(number);
                *extent = part.extent;
                part
            }
        }
    }

    /// The part that the blob's byte `offset` lies in, or, for one of the zeros that follow an object up to the next
    /// block, the part that it follows. `None` at and beyond the blob's end.
    pub fn part_at(&self, offset: u64) -> Option<Part> {
        let extent = self.at(offset)?;
        let record = self.record(extent.index);
        Some(part_of(extent.index, &record, record.first_part + (offset - extent.offset) / PART_BYTES))
    }

    /// Whether this is the table of the same blob and every record of `parent` is unchanged in it.
    pub fn extends(&self, parent: &ExtentTable) -> bool {
        self.blob_id() == parent.blob_id()
            && self.source_bytes().starts_with(parent.source_bytes())
            && self.record_bytes().starts_with(parent.record_bytes())
            && self.heap_bytes().starts_with(parent.heap_bytes())
    }

    pub(super) fn source_bytes(&self) -> &[u8] {
        &self.inner.bytes[HEADER_BYTES..self.inner.records]
    }

    pub(super) fn record_bytes(&self) -> &[u8] {
        &self.inner.bytes[self.inner.records..self.inner.heap]
    }

    pub(super) fn heap_bytes(&self) -> &[u8] {
        &self.inner.bytes[self.inner.heap..]
    }

    fn record(&self, index: u32) -> Record {
        let at = index as usize * RECORD_BYTES;
        Record::decode(&self.record_bytes()[at..at + RECORD_BYTES])
            .expect("records are validated when a table is opened")
    }

    fn strings(&self, record: &Record) -> (&str, &str) {
        let start = record.strings as usize;
        let middle = start + record.key_len as usize;
        let text = |range| {
            std::str::from_utf8(&self.heap_bytes()[range]).expect("strings are validated when a table is opened")
        };
        (text(start..middle), text(middle..middle + record.pin_len as usize))
    }

    /// Index of the last record that fulfils a condition that the first one fulfils and that holds up to some record.
    fn last_where(&self, holds: impl Fn(&Record) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if holds(&self.record(middle)) { low = middle } else { high = middle }
        }
        low
    }

    fn validated(bytes: Mapped) -> Result<Self, TableError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(TableError::NotATable);
        }
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(TableError::Damaged("shorter than its header"))?;
        let format = u32_at(head, 8);
        if format != FORMAT {
            return Err(TableError::UnknownFormat(format));
        }
        let header =
            Header::decode(head).ok_or(TableError::Damaged("the header's checksum, padding or blob id is wrong"))?;
        // 128 bits: the counts are not yet believed, and their sum must not wrap.
        let records = HEADER_BYTES as u128 + u128::from(header.source_count) * SOURCE_BYTES as u128;
        let heap = records + u128::from(header.extent_count) * RECORD_BYTES as u128;
        if heap + u128::from(header.heap_bytes) != bytes.len() as u128 {
            return Err(TableError::Damaged("its length is not what the header says"));
        }
        if crc32c::crc32c(&bytes[HEADER_BYTES..]) != header.body_crc {
            return Err(TableError::Damaged("its checksum is wrong"));
        }
        let table = Self { inner: Arc::new(Inner { bytes, header, records: records as usize, heap: heap as usize }) };
        table.check_records()?;
        Ok(table)
    }

    /// There is one way only to place given objects, so each record is compared with what must follow the one before.
    fn check_records(&self) -> Result<(), TableError> {
        let (mut offset, mut part, mut string) = (0u64, 0u64, 0u64);
        let heap = self.heap_bytes();
        for bytes in self.record_bytes().chunks_exact(RECORD_BYTES) {
            let record =
                Record::decode(bytes).ok_or(TableError::Damaged("an extent's pin kind or padding is wrong"))?;
            if record.size == 0 || record.size > MAX_BLOB_BYTES - offset {
                return Err(TableError::Damaged("an extent's size is zero or too large"));
            }
            if record.offset() != offset || record.first_part != part || record.strings != string {
                return Err(TableError::Damaged("an extent does not begin where the one before ends"));
            }
            if u32::from(record.source) >= self.inner.header.source_count {
                return Err(TableError::Damaged("an extent names a source that is not in the table"));
            }
            let middle = string + u64::from(record.key_len);
            let end = middle + u64::from(record.pin_len);
            let texts = (heap.get(string as usize..middle as usize), heap.get(middle as usize..end as usize));
            let (Some(key), Some(pin)) = texts else {
                return Err(TableError::Damaged("an extent's strings lie beyond the end"));
            };
            if std::str::from_utf8(key).is_err() || std::str::from_utf8(pin).is_err() {
                return Err(TableError::Damaged("a key or pin is not UTF-8"));
            }
            offset += record.blocks() * crate::BLOCK_BYTES;
            part += record.parts();
            string = end;
        }
        let header = &self.inner.header;
        if offset != header.blob_bytes || part != header.part_count || string != header.heap_bytes {
            return Err(TableError::Damaged("the header's sums are not those of the extents"));
        }
        Ok(())
    }
}

impl fmt::Debug for ExtentTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtentTable").field("header", &self.inner.header).finish_non_exhaustive()
    }
}

fn part_of(extent: u32, record: &Record, number: u64) -> Part {
    let object_offset = (number - record.first_part) * PART_BYTES;
    let len = PART_BYTES.min(record.size - object_offset);
    Part { number, extent, object_offset, blob_offset: record.offset() + object_offset, len: len as u32 }
}

fn source_id(bytes: &[u8]) -> SourceId {
    let mut id = [0; SOURCE_BYTES];
    id.copy_from_slice(bytes);
    SourceId(id)
}
