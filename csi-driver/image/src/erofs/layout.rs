//! The on-disk structures of EROFS, as far as our images use them. Little endian.
//!
//! Whatever has only one value in our images is written here and nowhere else, and reading compares with what would have been
//! written: a structure that differs in any bit is not one of ours.

use crate::BLOCK_BYTES;

pub(super) const BLOCK: usize = BLOCK_BYTES as usize;
/// Inodes are addressed by their byte offset in these units: the number is the inode's nid.
pub(super) const SLOT_BYTES: u64 = 32;
pub(super) const DIRENT_BYTES: usize = 12;
/// The longest inode: it never crosses a block.
pub(super) const EXTENDED_BYTES: usize = 64;
const COMPACT_BYTES: usize = 32;

/// The root's inode comes first, right after the superblock's block.
pub(super) const ROOT_NID: u64 = BLOCK_BYTES / SLOT_BYTES;
/// Start of a file without blocks (`EROFS_NULL_ADDR`).
pub(super) const NO_BLOCK: u32 = u32::MAX;
/// The blob's address among all devices is a multiple of so many blocks (1 GiB).
pub(super) const DEVICE_ALIGN_BLOCKS: u64 = 1 << 18;

/// When everything in an image was modified, in seconds since 1970: 1980-01-01T00:00:00Z, which every archive format can hold.
pub const MTIME: u64 = 315_532_800;

const SUPERBLOCK_AT: usize = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_CHECKSUM_AND_MTIME: u32 = 0x1 | 0x2;
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;
const DEVICE_SLOT: u16 = 9;
const DEVICE_SLOT_BYTES: usize = 128;
const VOLUME_NAME: &[u8] = b"granary";
const DEVICE_TAG: &[u8] = b"blob";

/// What differs between the superblocks of two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) inode_count: u64,
    /// Length of the image.
    pub(super) blocks: u32,
    /// Length of the blob.
    pub(super) device_blocks: u32,
    /// Address of the blob's first block among all devices.
    pub(super) device_start: u32,
}

impl Superblock {
    /// The image's first block.
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let sb = &mut block[SUPERBLOCK_AT..];
        put(sb, 0, &MAGIC.to_le_bytes());
        put(sb, 8, &COMPAT_CHECKSUM_AND_MTIME.to_le_bytes());
        sb[12] = BLOCK_BYTES.trailing_zeros() as u8;
        put(sb, 14, &(ROOT_NID as u16).to_le_bytes());
        put(sb, 16, &self.inode_count.to_le_bytes());
        put(sb, 24, &MTIME.to_le_bytes());
        put(sb, 36, &self.blocks.to_le_bytes());
        put(sb, 64, VOLUME_NAME);
        put(sb, 80, &INCOMPAT_DEVICE_TABLE.to_le_bytes());
        put(sb, 86, &1u16.to_le_bytes()); // number of extra devices
        put(sb, 88, &DEVICE_SLOT.to_le_bytes());
        let slot = &mut block[usize::from(DEVICE_SLOT) * DEVICE_SLOT_BYTES..];
        put(slot, 0, DEVICE_TAG);
        put(slot, 64, &self.device_blocks.to_le_bytes());
        put(slot, 68, &self.device_start.to_le_bytes());
        // The kernel's CRC32C has neither a final inversion nor the block's first 1,024 bytes.
        let crc = !crc32c::crc32c(&block[SUPERBLOCK_AT..]);
        put(&mut block[SUPERBLOCK_AT..], 4, &crc.to_le_bytes());
        block
    }

    /// `None` if it is not what [`encode`](Self::encode) writes.
    pub(super) fn decode(block: &[u8; BLOCK]) -> Option<Self> {
        let slot = usize::from(DEVICE_SLOT) * DEVICE_SLOT_BYTES;
        let sb = Self {
            inode_count: u64_at(block, SUPERBLOCK_AT + 16),
            blocks: u32_at(block, SUPERBLOCK_AT + 36),
            device_blocks: u32_at(block, slot + 64),
            device_start: u32_at(block, slot + 68),
        };
        (sb.encode() == *block).then_some(sb)
    }
}

/// How an inode's data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Consecutive blocks of the blob.
    File,
    /// Consecutive blocks of the image.
    Directory,
    /// The same, but what follows the last whole block lies right after the inode.
    DirectoryWithInlineTail,
}

/// An inode. Owner, mode and time are the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// First block among all devices, or [`NO_BLOCK`].
    pub(super) start: u32,
    /// A number for programs that cannot take the 64-bit one.
    pub(super) number: u32,
    pub(super) links: u32,
}

impl Inode {
    /// 32 bytes, or 64 if a field needs the room.
    pub(super) fn len(&self) -> usize {
        if self.size > u64::from(u32::MAX) || self.links > u32::from(u16::MAX) { EXTENDED_BYTES } else { COMPACT_BYTES }
    }

    /// Number of blocks that hold the data, besides an inline tail.
    pub(super) fn own_blocks(&self) -> u64 {
        match self.kind {
            Kind::File | Kind::Directory => self.size.div_ceil(BLOCK_BYTES),
            Kind::DirectoryWithInlineTail => self.size / BLOCK_BYTES,
        }
    }

    /// The first [`len`](Self::len) bytes are the inode.
    pub(super) fn encode(&self) -> [u8; EXTENDED_BYTES] {
        let mut out = [0; EXTENDED_BYTES];
        let extended = self.len() == EXTENDED_BYTES;
        let (mode, layout) = match self.kind {
            Kind::File => (0o100444u16, 0u16),
            Kind::Directory => (0o040555, 0),
            Kind::DirectoryWithInlineTail => (0o040555, 2),
        };
        put(&mut out, 0, &(u16::from(extended) | layout << 1).to_le_bytes());
        put(&mut out, 4, &mode.to_le_bytes());
        put(&mut out, 16, &self.start.to_le_bytes());
        put(&mut out, 20, &self.number.to_le_bytes());
        if extended {
            put(&mut out, 8, &self.size.to_le_bytes());
            put(&mut out, 32, &MTIME.to_le_bytes());
            put(&mut out, 44, &self.links.to_le_bytes());
        } else {
            // A compact inode's time is the superblock's.
            put(&mut out, 6, &(self.links as u16).to_le_bytes());
            put(&mut out, 8, &(self.size as u32).to_le_bytes());
        }
        out
    }

    /// `None` if `bytes` do not begin with what [`encode`](Self::encode) writes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let compact: &[u8; COMPACT_BYTES] = bytes.first_chunk()?;
        let extended = compact[0] & 1 == 1;
        let (size, links) = if extended {
            let inode: &[u8; EXTENDED_BYTES] = bytes.first_chunk()?;
            (u64_at(inode, 8), u32_at(inode, 44))
        } else {
            (u64::from(u32_at(compact, 8)), u32::from(u16_at(compact, 6)))
        };
        let kind = match (compact[0] >> 1, u16_at(compact, 4)) {
            (0, 0o100444) => Kind::File,
            (0, 0o040555) => Kind::Directory,
            (2, 0o040555) => Kind::DirectoryWithInlineTail,
            _ => return None,
        };
        let inode = Self { kind, size, start: u32_at(compact, 16), number: u32_at(compact, 20), links };
        bytes.starts_with(&inode.encode()[..inode.len()]).then_some(inode)
    }
}

/// An entry of a directory, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dirent {
    pub(super) nid: u64,
    /// Where in the block the name begins.
    pub(super) name_at: u16,
    pub(super) is_directory: bool,
}

impl Dirent {
    pub(super) fn encode(&self) -> [u8; DIRENT_BYTES] {
        let mut out = [0; DIRENT_BYTES];
        put(&mut out, 0, &self.nid.to_le_bytes());
        put(&mut out, 8, &self.name_at.to_le_bytes());
        out[10] = if self.is_directory { 2 } else { 1 };
        out
    }

    /// `None` if it is not what [`encode`](Self::encode) writes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; DIRENT_BYTES] = bytes.first_chunk()?;
        let dirent = Self { nid: u64_at(bytes, 0), name_at: u16_at(bytes, 8), is_directory: bytes[10] == 2 };
        (dirent.encode() == *bytes).then_some(dirent)
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
