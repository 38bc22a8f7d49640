//! The bytes of an extent table, format 1: header, source ids, records, strings. Little endian, no gaps.

use crate::{BLOCK_BYTES, PART_BYTES, PinKind};

pub(super) const MAGIC: [u8; 8] = *b"GRNEXTNT";
pub(super) const FORMAT: u32 = 1;
pub(super) const HEADER_BYTES: usize = 128;
pub(super) const SOURCE_BYTES: usize = 16;
pub(super) const RECORD_BYTES: usize = 40;
pub(super) const BLOB_ID_BYTES: usize = 63;

/// Largest blob: a 32-bit block number addresses 16 TiB, of which the image and its alignment take at least 1 GiB.
pub(super) const MAX_BLOB_BYTES: u64 = (u32::MAX as u64 - (1 << 18)) * BLOCK_BYTES;

/// Where the header's two checksums lie.
const HEADER_CRC: std::ops::Range<usize> = 12..16;

/// What the header says, besides checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) body_crc: u32,
    pub(super) source_count: u32,
    pub(super) extent_count: u32,
    pub(super) part_count: u64,
    pub(super) blob_bytes: u64,
    pub(super) heap_bytes: u64,
    pub(super) blob_id: String,
}

/// One extent as it is stored. Its strings lie in the heap at `strings`: the key, then the pin's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) size: u64,
    pub(super) first_part: u64,
    pub(super) strings: u64,
    pub(super) block: u32,
    pub(super) key_len: u32,
    pub(super) pin_len: u32,
    pub(super) source: u16,
    pub(super) pin_kind: PinKind,
}

impl Record {
    pub(super) fn offset(&self) -> u64 {
        u64::from(self.block) * BLOCK_BYTES
    }

    pub(super) fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK_BYTES)
    }

    pub(super) fn parts(&self) -> u64 {
        self.size.div_ceil(PART_BYTES)
    }

    pub(super) fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        out[0..8].copy_from_slice(&self.size.to_le_bytes());
        out[8..16].copy_from_slice(&self.first_part.to_le_bytes());
        out[16..24].copy_from_slice(&self.strings.to_le_bytes());
        out[24..28].copy_from_slice(&self.block.to_le_bytes());
        out[28..32].copy_from_slice(&self.key_len.to_le_bytes());
        out[32..36].copy_from_slice(&self.pin_len.to_le_bytes());
        out[36..38].copy_from_slice(&self.source.to_le_bytes());
        out[38] = self.pin_kind as u8;
        out
    }

    /// `None` for an unknown pin kind or a reserved byte that is not zero.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let pin_kind = match bytes[38] {
            1 => PinKind::VersionId,
            2 => PinKind::ETag,
            3 => PinKind::ModificationTime,
            4 => PinKind::SizeOnly,
            _ => return None,
        };
        (bytes[39] == 0).then(|| Self {
            size: u64_at(bytes, 0),
            first_part: u64_at(bytes, 8),
            strings: u64_at(bytes, 16),
            block: u32_at(bytes, 24),
            key_len: u32_at(bytes, 28),
            pin_len: u32_at(bytes, 32),
            source: u16::from_le_bytes([bytes[36], bytes[37]]),
            pin_kind,
        })
    }
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..20].copy_from_slice(&self.body_crc.to_le_bytes());
        out[20..24].copy_from_slice(&self.source_count.to_le_bytes());
        out[24..28].copy_from_slice(&self.extent_count.to_le_bytes());
        out[32..40].copy_from_slice(&self.part_count.to_le_bytes());
        out[40..48].copy_from_slice(&self.blob_bytes.to_le_bytes());
        out[48..56].copy_from_slice(&self.heap_bytes.to_le_bytes());
        out[64..64 + self.blob_id.len()].copy_from_slice(self.blob_id.as_bytes());
        let crc = crc32c::crc32c(&out);
        out[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` if the checksum or a reserved byte is wrong, or the blob id is none. Magic and format are the caller's to check.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut unsigned = *bytes;
        unsigned[HEADER_CRC].fill(0);
        if crc32c::crc32c(&unsigned) != u32_at(bytes, HEADER_CRC.start) {
            return None;
        }
        if bytes[28..32].iter().chain(&bytes[56..64]).any(|&b| b != 0) {
            return None;
        }
        let field = &bytes[64..];
        let len = field.iter().position(|&b| b == 0)?;
        let blob_id = std::str::from_utf8(&field[..len]).ok()?;
        if field[len..].iter().any(|&b| b != 0) || !is_blob_id(blob_id) {
            return None;
        }
        Some(Self {
            body_crc: u32_at(bytes, 16),
            source_count: u32_at(bytes, 20),
            extent_count: u32_at(bytes, 24),
            part_count: u64_at(bytes, 32),
            blob_bytes: u64_at(bytes, 40),
            heap_bytes: u64_at(bytes, 48),
            blob_id: blob_id.to_owned(),
        })
    }
}

/// A blob id names a directory on nodes, so nothing in it may be a path.
pub(super) fn is_blob_id(text: &str) -> bool {
    (1..=BLOB_ID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
