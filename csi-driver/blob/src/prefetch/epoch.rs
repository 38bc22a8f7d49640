//! Recognises an epoch: each file is read once and whole, in an order that is random.

use std::ops::Range;
use std::time::Duration;

use granary_image::ExtentTable;

use super::read::{Read, end_of};

/// Files that have to be read before an epoch is believed: this many, or a tenth of them, but never fewer than [`LEAST`].
const FILES: u32 = 64;
const LEAST: u32 = 8;
/// A pattern that was not an epoch has to go on this many times longer the next time, at most.
const DOUBTS: u32 = 16;
/// Without demand for this long, nothing more is filled.
const IDLE: Duration = Duration::from_secs(2);
/// The caller is told again this often, in case that its filling stopped.
const REMIND: Duration = Duration::from_millis(500);

/// The reads since an epoch began.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    /// Files whose first byte was read, a bit each; made at the first of them.
    seen: Vec<u64>,
    files: u32,
    /// Blob addresses from the first file seen to the last one, and their indices.
    hull: Range<u64>,
    indices: Range<u32>,
    /// Bytes of the files seen.
    bytes: u64,
    /// Bytes demanded of them, and of others.
    demand: u64,
    stray: u64,
    /// Files that were begun a second time, and files that followed the one before.
    repeats: u32,
    in_order: u32,
    /// It is one.
    believed: bool,
    /// How often one ended and the next began, and the bytes demanded in those that ended.
    ended: u32,
    past: u64,
    doubt: u32,
    last_read: Duration,
    told: Duration,
}

impl Epoch {
    /// Takes a read; whether the caller is to be told (again) that everything should be filled.
    pub(super) fn on_read(&mut self, table: &ExtentTable, read: &Read, crossed: bool, now: Duration) -> bool {
        if table.len() < 2 * LEAST {
            return false;
        }
        self.last_read = now;
        if read.starts > 0 {
            self.begin_files(table, read, crossed);
        }
        if self.has(read.last) {
            self.demand += read.len();
        } else {
            self.stray += read.len();
        }
        let was = self.believed;
        self.believed = if was { self.goes_on() } else { self.begins(table) };
        match (was, self.believed) {
            (true, false) => self.not_one(),
            (_, true) if !was || now.saturating_sub(self.told) >= REMIND => {
                self.told = now;
                return true;
            }
            _ => {}
        }
        false
    }

    /// The addresses to fill, and how many bytes may be filled and not yet read; `None` if there is no epoch, or if
    /// nobody reads.
    pub(super) fn fill(&self, now: Duration) -> Option<(Range<u64>, u64)> {
        if !self.believed || now.saturating_sub(self.last_read) > IDLE {
            return None;
        }
        let times = match self.files {
            _ if self.ended > 0 => 4,
            files if files < 2 * FILES => 1,
            files if files < 4 * FILES => 2,
            _ => 4,
        };
        Some((self.hull.clone(), (self.past + self.demand).saturating_mul(times)))
    }

    fn begin_files(&mut self, table: &ExtentTable, read: &Read, crossed: bool) {
        // A dataset grows by its next version.
        let words = table.len().div_ceil(64) as usize;
        if self.seen.len() < words {
            self.seen.resize(words, 0);
        }
        for index in read.last + 1 - read.starts..=read.last {
            if self.has(index) {
                self.repeated();
            }
            if self.has(index) {
                continue;
            }
            let extent = table.extent(index);
            self.seen[index as usize / 64] |= 1 << (index % 64);
            self.bytes += end_of(&extent) - extent.offset;
            if self.indices.is_empty() {
                self.hull = extent.offset..end_of(&extent);
                self.indices = index..index + 1;
            } else {
                self.hull = self.hull.start.min(extent.offset)..self.hull.end.max(end_of(&extent));
                self.indices = self.indices.start.min(index)..self.indices.end.max(index + 1);
            }
            self.files += 1;
            self.in_order += u32::from(crossed || index > read.first);
        }
    }

    /// A file is begun a second time: either the next epoch begins, or this is none.
    fn repeated(&mut self) {
        let range = self.indices.end - self.indices.start;
        if self.believed && u64::from(self.files) * 10 >= u64::from(range) * 9 {
            let (ended, past) = (self.ended + 1, self.past + self.demand);
            self.forget();
            // The same files are expected again: their range is kept until they are.
            (self.believed, self.ended, self.past) = (true, ended, past);
        } else {
            self.repeats += 1;
        }
        if self.repeats > LEAST + self.files / 10 {
            self.not_one();
        }
    }

    fn begins(&self, table: &ExtentTable) -> bool {
        let least = FILES.min(table.len() / 10).max(LEAST) << self.doubt;
        self.files >= least.min(table.len() / 2)
            && self.repeats * 16 <= self.files
            && self.in_order * 4 <= self.files
            && self.stray * 8 <= self.demand
            && self.demand * 4 >= self.bytes * 3
    }

    fn goes_on(&self) -> bool {
        self.files < LEAST
            || self.in_order * 2 <= self.files && self.stray * 4 <= self.demand && self.demand * 2 >= self.bytes
    }

    fn not_one(&mut self) {
        let doubt = if 1 << self.doubt < DOUBTS { self.doubt + 1 } else { self.doubt };
        self.forget();
        self.indices = 0..0;
        (self.believed, self.ended, self.past, self.doubt) = (false, 0, 0, doubt);
    }

    /// Forgets what was seen, not where.
    fn forget(&mut self) {
        self.seen.fill(0);
        (self.files, self.bytes, self.demand, self.stray, self.repeats, self.in_order) = (0, 0, 0, 0, 0, 0);
    }

    fn has(&self, index: u32) -> bool {
        self.seen.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}
