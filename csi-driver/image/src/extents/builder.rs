use std::{
    hash::{BuildHasher, RandomState},
    io::Write,
};

use hashbrown::HashTable;

use super::{
    ExtentTable, TableError,
    format::{Header, MAX_BLOB_BYTES, RECORD_BYTES, Record, SOURCE_BYTES, is_blob_id},
};
use crate::{BLOCK_BYTES, Digest, Object, SourceId, checked_write::DigestWriter};

/// Places objects in a blob. Memory: the table itself and about 8 bytes an extent.
pub struct TableBuilder {
    blob_id: String,
    sources: Vec<SourceId>,
    records: Vec<u8>,
    heap: Vec<u8>,
    blocks: u64,
    parts: u64,
    known: HashTable<u32>,
    hasher: RandomState,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Content address of the table.
    pub digest: Digest,
    /// Length of the table in bytes.
    pub bytes: u64,
    /// Length of the blob in bytes.
    pub blob_bytes: u64,
    /// Number of extents.
    pub extent_count: u32,
}

impl TableBuilder {
    /// An empty table of a new blob. The id (1 to 63 letters, digits, '-' and '_') is checked by [`finish`](Self::finish).
    pub fn new(blob_id: String) -> Self {
        Self {
            blob_id,
            sources: Vec::new(),
            records: Vec::new(),
            heap: Vec::new(),
            blocks: 0,
            parts: 0,
            known: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// A table of the same blob that begins with all of `parent`'s extents, used or not.
    pub fn extending(parent: &ExtentTable) -> Self {
        let mut builder = Self::new(parent.blob_id().to_owned());
        builder.sources = parent.sources().collect();
        builder.records = parent.record_bytes().to_vec();
        builder.heap = parent.heap_bytes().to_vec();
        builder.blocks = parent.blob_bytes() / BLOCK_BYTES;
        builder.parts = parent.part_count();
        for index in 0..parent.len() {
            builder.remember(index);
        }
        builder
    }

    /// The blob offset of `object`: that of an equal one if it is there already, else the next free block.
    pub fn allocate(&mut self, object: &Object) -> Result<u64, TableError> {
        if object.size == 0 {
            return Err(TableError::EmptyObject(object.key.clone()));
        }
        let source = self.source_index(object.source)?;
        let wanted = Strings { key: object.key.as_bytes(), pin: object.pin.value.as_bytes() };
        let matches = |&index: &u32| {
            let (record, strings) = stored(&self.records, &self.heap, index);
            strings == wanted
                && record.size == object.size
                && record.source == source
                && record.pin_kind == object.pin.kind
        };
        let hash = self.hasher.hash_one((source, &wanted, object.size));
        if let Some(&index) = self.known.find(hash, matches) {
            return Ok(record_at(&self.records, index).offset());
        }
        if object.size > MAX_BLOB_BYTES - self.blocks * BLOCK_BYTES {
            return Err(TableError::TooLarge);
        }
        let too_large = |_| TableError::TooLarge;
        let record = Record {
            size: object.size,
            first_part: self.parts,
            strings: self.heap.len() as u64,
            block: u32::try_from(self.blocks).map_err(too_large)?,
            key_len: u32::try_from(wanted.key.len()).map_err(too_large)?,
            pin_len: u32::try_from(wanted.pin.len()).map_err(too_large)?,
            source,
            pin_kind: object.pin.kind,
        };
        let index = self.len();
        self.heap.extend_from_slice(wanted.key);
        self.heap.extend_from_slice(wanted.pin);
        self.records.extend_from_slice(&record.encode());
        self.blocks += record.blocks();
        self.parts += record.parts();
        self.remember(index);
        Ok(record.offset())
    }

    /// Length of the blob so far, in bytes.
    pub fn blob_bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// Writes the table. The same allocations in the same order give the same bytes.
    pub fn finish(self, out: &mut impl Write) -> Result<TableSummary, TableError> {
        if !is_blob_id(&self.blob_id) {
            return Err(TableError::BlobId(self.blob_id));
        }
        let extent_count = self.len();
        let sources: Vec<u8> = self.sources.iter().flat_map(|source| source.0).collect();
        debug_assert_eq!(sources.len(), self.sources.len() * SOURCE_BYTES);
        let body = [sources.as_slice(), &self.records, &self.heap];
        let header = Header {
            body_crc: body.iter().fold(0, |crc, bytes| crc32c::crc32c_append(crc, bytes)),
            source_count: self.sources.len() as u32,
            extent_count,
            part_count: self.parts,
            blob_bytes: self.blocks * BLOCK_BYTES,
            heap_bytes: self.heap.len() as u64,
            blob_id: self.blob_id,
        };
        let mut writer = DigestWriter::new(out);
        writer.write(&header.encode())?;
        for bytes in body {
            writer.write(bytes)?;
        }
        let (digest, bytes) = writer.finish()?;
        Ok(TableSummary { digest, bytes, blob_bytes: header.blob_bytes, extent_count })
    }

    fn len(&self) -> u32 {
        (self.records.len() / RECORD_BYTES) as u32
    }

    /// Few sources are in use at a time, so a list is searched faster than a map.
    fn source_index(&mut self, source: SourceId) -> Result<u16, TableError> {
        let index = self.sources.iter().position(|known| *known == source).unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        u16::try_from(index).map_err(|_| TableError::TooLarge)
    }

    fn remember(&mut self, index: u32) {
        let Self { records, heap, known, hasher, .. } = self;
        let hash = |&index: &u32| {
            let (record, strings) = stored(records, heap, index);
            hasher.hash_one((record.source, strings, record.size))
        };
        known.insert_unique(hash(&index), index, hash);
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Strings<'a> {
    key: &'a [u8],
    pin: &'a [u8],
}

fn record_at(records: &[u8], index: u32) -> Record {
    let at = index as usize * RECORD_BYTES;
    Record::decode(&records[at..at + RECORD_BYTES])
        .expect("the builder encodes every record itself or takes it from a validated table")
}

fn stored<'a>(records: &[u8], heap: &'a [u8], index: u32) -> (Record, Strings<'a>) {
    let record = record_at(records, index);
    let middle = record.strings as usize + record.key_len as usize;
    let strings =
        Strings { key: &heap[record.strings as usize..middle], pin: &heap[middle..middle + record.pin_len as usize] };
    (record, strings)
}
