//! The parts file: which parts of a blob's data file are durably there, where they lie, and their checksums.
//!
//! Little endian, in pages of 512 bytes, each with its own CRC32C, so that a damaged page is found and costs its own entries
//! only. Disks write so many bytes in full or not at all: a power cut while a page is written leaves the one before or the new
//! one, and no part that was there is lost. Page 0 is the header: magic, format, part size, blob id. Each further page has a
//! 16-byte head (CRC32C of what follows it in the page, page number) and 31 entries of 16 bytes: first block in the blob,
//! length in bytes, CRC32C of the part, 1 for present. A page of zeros, or one beyond the file's end, has no part.
//!
//! The entries say where a part lies, so that parts can be evicted before anybody brings the blob's extent table.

use std::io;
use std::os::unix::fs::FileExt;

use granary_image::{BLOCK_BYTES, PART_BYTES};

use crate::disk::CacheFile;

const PAGE: usize = 512;
const HEAD: usize = 16;
const ENTRY: usize = 16;
const ENTRIES: u64 = ((PAGE - HEAD) / ENTRY) as u64;
const MAGIC: [u8; 8] = *b"GRNPARTS";
const FORMAT: u32 = 2;
const ID_BYTES: usize = 64;

/// A part that is durably in the data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// First block in the blob.
    pub(crate) block: u32,
    /// Length in bytes.
    pub(crate) len: u32,
    /// CRC32C of its bytes.
    pub(crate) crc: u32,
}

impl Entry {
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.block) * BLOCK_BYTES
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.len.div_ceil(BLOCK_BYTES as u32)
    }

    /// Whether part `number` can be such a one. Each part before it takes a block at least, so that numbers, for all of which
    /// there is room in memory up to the largest, are as small as the data file is.
    fn is_possible(&self, number: u64) -> bool {
        self.len > 0 && u64::from(self.len) <= PART_BYTES && number <= u64::from(self.block)
    }
}

/// One page of entries.
pub(crate) struct Page {
    number: u64,
    bytes: [u8; PAGE],
}

impl Page {
    fn empty(number: u64) -> Self {
        Self { number, bytes: [0; PAGE] }
    }

    /// Number of the first part of the page.
    fn first_part(&self) -> u64 {
        (self.number - 1) * ENTRIES
    }

    fn at(&self, part: u64) -> usize {
        HEAD + (part - self.first_part()) as usize * ENTRY
    }

    pub(crate) fn get(&self, part: u64) -> Option<Entry> {
        let at = self.at(part);
        let field = |n: usize| u32_at(&self.bytes, at + 4 * n);
        (field(3) == 1).then(|| Entry { block: field(0), len: field(1), crc: field(2) })
    }

    pub(crate) fn set(&mut self, part: u64, entry: Option<Entry>) {
        let at = self.at(part);
        let fields = entry.map_or([0; 4], |e| [e.block, e.len, e.crc, 1]);
        for (n, field) in fields.into_iter().enumerate() {
            self.bytes[at + 4 * n..at + 4 * n + 4].copy_from_slice(&field.to_le_bytes());
        }
    }

    /// The parts of the page and their numbers.
    fn entries(&self) -> impl Iterator<Item = (u64, Entry)> {
        (self.first_part()..self.first_part() + ENTRIES).filter_map(|part| Some((part, self.get(part)?)))
    }

    fn seal(&mut self) {
        self.bytes[4..12].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32c::crc32c(&self.bytes[4..]);
        self.bytes[..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// `None` if the page is damaged or holds what no cache writes.
    fn open(number: u64, bytes: [u8; PAGE]) -> Option<Self> {
        let page = Self { number, bytes };
        if bytes == [0; PAGE] {
            return Some(page);
        }
        let sound = crc32c::crc32c(&bytes[4..]) == u32_at(&bytes, 0)
            && bytes[4..12] == number.to_le_bytes()
            && page.entries().all(|(part, e)| e.is_possible(part));
        sound.then_some(page)
    }
}

/// The page that holds part `part`.
pub(crate) fn page_of(part: u64) -> u64 {
    1 + part / ENTRIES
}

/// An open parts file. Callers see to it that one thread writes at a time.
pub(crate) struct PartsMap {
    file: CacheFile,
}

/// Why a parts file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    #[error("it is damaged")]
    Damaged,
    #[error("it is of format {0}, and this release reads {FORMAT}")]
    UnknownFormat(u32),
    #[error("it belongs to another blob")]
    OtherBlob,
    #[error("it is of another part size")]
    OtherPartSize,
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn header(blob_id: &str) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    page[8..16].copy_from_slice(&MAGIC);
    page[16..20].copy_from_slice(&FORMAT.to_le_bytes());
    page[20..24].copy_from_slice(&(PART_BYTES as u32).to_le_bytes());
    page[32..32 + blob_id.len().min(ID_BYTES)].copy_from_slice(&blob_id.as_bytes()[..blob_id.len().min(ID_BYTES)]);
    let crc = crc32c::crc32c(&page[4..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
    page
}

impl PartsMap {
    /// Writes the header of a new, empty map.
    pub(crate) fn create(file: CacheFile, blob_id: &str) -> io::Result<Self> {
        file.write_all_at(&header(blob_id), 0)?;
        Ok(Self { file })
    }

    /// Checks the header of a map that was found.
    pub(crate) fn open(file: CacheFile, blob_id: &str) -> Result<Self, MapError> {
        let mut page = [0; PAGE];
        match file.read_exact_at(&mut page, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(MapError::Damaged),
            other => other?,
        }
        if page[8..16] != MAGIC || crc32c::crc32c(&page[4..]) != u32_at(&page, 0) {
            return Err(MapError::Damaged);
        }
        let wanted = header(blob_id);
        match (u32_at(&page, 16), page[20..24] == wanted[20..24], page == wanted) {
            (FORMAT, true, true) => Ok(Self { file }),
            (FORMAT, true, false) => Err(MapError::OtherBlob),
            (FORMAT, false, _) => Err(MapError::OtherPartSize),
            (format, ..) => Err(MapError::UnknownFormat(format)),
        }
    }

    /// All entries, each given to `found`; gives the damaged pages, whose parts are absent.
    pub(crate) fn load(&self, mut found: impl FnMut(u64, Entry)) -> io::Result<Vec<u64>> {
        let pages = self.bytes()?.div_ceil(PAGE as u64);
        let mut damaged = Vec::new();
        for number in 1..pages {
            match self.read_page(number)? {
                Some(page) => page.entries().for_each(|(part, entry)| found(part, entry)),
                None => damaged.push(number),
            }
        }
        Ok(damaged)
    }

    /// The page as it is on the disk; an empty one in place of a damaged one.
    pub(crate) fn page(&self, number: u64) -> io::Result<Page> {
        Ok(self.read_page(number)?.unwrap_or_else(|| Page::empty(number)))
    }

    fn read_page(&self, number: u64) -> io::Result<Option<Page>> {
        let mut bytes = [0; PAGE];
        let at = number * PAGE as u64;
        match self.file.read_exact_at(&mut bytes, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                // Beyond the end there is nothing; in the last page there is what a torn write left.
                return Ok((self.bytes()? <= at).then(|| Page::empty(number)));
            }
            other => other?,
        }
        Ok(Page::open(number, bytes))
    }

    /// Writes a page; durable after [`Self::sync`].
    pub(crate) fn write(&self, mut page: Page) -> io::Result<()> {
        page.seal();
        self.file.write_all_at(&page.bytes, page.number * PAGE as u64)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(crate) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const ENTRY_A: Entry = Entry { block: 5000, len: 5000, crc: 99 };

    fn with_entries(parts: &[u64]) -> (File, PartsMap) {
        let file = tempfile::tempfile().expect("temporary file");
        let map = PartsMap::create(again(&file), "blob").expect("create");
        for &part in parts {
            let mut page = map.page(page_of(part)).expect("page");
            page.set(part, Some(ENTRY_A));
            map.write(page).expect("write");
        }
        (file, map)
    }

    fn again(file: &File) -> CacheFile {
        file.try_clone().expect("clone").into()
    }

    fn load(map: &PartsMap) -> (Vec<u64>, u64) {
        let mut found = Vec::new();
        let damaged = map.load(|part, entry| {
            assert_eq!(entry, ENTRY_A);
            found.push(part);
        });
        (found, damaged.expect("load").len() as u64)
    }

    #[test]
    fn entries_survive() {
        let (file, map) = with_entries(&[0, 30, 31, 2000]);
        assert_eq!(load(&map), (vec![0, 30, 31, 2000], 0));
        let map = PartsMap::open(file.into(), "blob").expect("open");
        let mut page = map.page(page_of(30)).expect("page");
        page.set(30, None);
        map.write(page).expect("write");
        assert_eq!(load(&map).0, [0, 31, 2000]);
    }

    #[test]
    fn each_changed_byte_is_found() {
        let (file, map) = with_entries(&[0, 300]);
        for at in [PAGE, PAGE + 5, PAGE + 16, PAGE + 20, 2 * PAGE - 1] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).expect("read");
            file.write_all_at(&[byte[0] ^ 1], at as u64).expect("damage");
            assert_eq!(load(&map), (vec![300], 1), "byte {at}");
            file.write_all_at(&byte, at as u64).expect("repair");
        }
        assert_eq!(load(&map), (vec![0, 300], 0));
    }

    #[test]
    fn a_part_that_lies_before_its_number_is_damage() {
        let (file, map) = with_entries(&[0]);
        let far = 5001;
        let mut page = map.page(page_of(far)).expect("page");
        page.set(far, Some(ENTRY_A));
        map.write(page).expect("write");
        let map = PartsMap::open(file.into(), "blob").expect("open");
        assert_eq!(load(&map), (vec![0], 1));
    }

    #[test]
    fn a_torn_or_misplaced_page_is_found() {
        let (file, map) = with_entries(&[0, 40]);
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, PAGE as u64).expect("read");
        file.write_all_at(&page, 2 * PAGE as u64).expect("misplace");
        assert_eq!(load(&map), (vec![0], 1));
        file.set_len(2 * PAGE as u64 + 100).expect("tear");
        assert_eq!(load(&map), (vec![0], 1));
        file.set_len(2 * PAGE as u64).expect("cut");
        assert_eq!(load(&map), (vec![0], 0));
    }

    #[test]
    fn other_headers_are_refused() {
        let open = |at: u64, bytes: &[u8], reseal: bool| {
            let (file, _) = with_entries(&[]);
            file.write_all_at(bytes, at).expect("change");
            if reseal {
                let mut page = [0; PAGE];
                file.read_exact_at(&mut page, 0).expect("read");
                file.write_all_at(&crc32c::crc32c(&page[4..]).to_le_bytes(), 0).expect("seal");
            }
            PartsMap::open(file.into(), "blob").err()
        };
        assert!(matches!(open(16, &[9], false), Some(MapError::Damaged)));
        assert!(matches!(open(16, &[9], true), Some(MapError::UnknownFormat(9))));
        assert!(matches!(open(21, &[1], true), Some(MapError::OtherPartSize)));
        assert!(matches!(open(32, b"x", true), Some(MapError::OtherBlob)));
        assert!(matches!(open(8, b"x", true), Some(MapError::Damaged)));
        let empty = tempfile::tempfile().expect("temporary file");
        assert!(matches!(PartsMap::open(empty.into(), "blob"), Err(MapError::Damaged)));
    }

    #[test]
    fn random_bytes_are_no_map() {
        let (file, _) = with_entries(&[0, 40]);
        let mut sound = vec![0; 3 * PAGE];
        file.read_exact_at(&mut sound, 0).expect("read");
        let random = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) as u8;
        for at in 0..3 {
            let bytes: Vec<u8> =
                sound.iter().enumerate().map(|(n, b)| if n / PAGE == at { random(n) } else { *b }).collect();
            let file = tempfile::tempfile().expect("temporary file");
            file.write_all_at(&bytes, 0).expect("write");
            match PartsMap::open(file.into(), "blob") {
                Err(MapError::Damaged) if at == 0 => {}
                Ok(map) if at > 0 => assert_eq!(load(&map), (vec![if at == 1 { 40 } else { 0 }], 1)),
                other => panic!("{:?}", other.err()),
            }
        }
    }
}
