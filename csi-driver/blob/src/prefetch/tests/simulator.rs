//! Readers, and a cache that does what a [`Prefetcher`] says.

use std::collections::VecDeque;
use std::time::Duration;

use granary_image::ExtentTable;

use crate::prefetch::{Advice, Prefetcher};
use crate::tests::support::table;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Offset and length in the blob.
pub(super) type Reads = Vec<(u64, u64)>;

/// A sequence of numbers that look random and are the same in each run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// A table of files of these sizes.
pub(super) fn files(sizes: impl IntoIterator<Item = u64>) -> ExtentTable {
    let named: Vec<_> = sizes.into_iter().enumerate().map(|(n, size)| (format!("{n:07}"), size)).collect();
    let objects: Vec<_> = named.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    table("b", &objects)
}

/// The reads of a range, in pieces.
pub(super) fn sequential(from: u64, to: u64, piece: u64) -> Reads {
    (from..to).step_by(piece as usize).map(|at| (at, piece.min(to - at))).collect()
}

/// The whole of a file in reads of up to 1 MiB.
pub(super) fn whole(table: &ExtentTable, index: u32) -> Reads {
    let extent = table.extent(index);
    sequential(extent.offset, extent.offset + extent.size.next_multiple_of(4096), MIB)
}

/// As the reads arrive that are made in this order, none before the one that is so many places earlier.
pub(super) fn in_flight(reads: impl IntoIterator<Item = (u64, u64)>, depth: usize, dice: &mut Dice) -> Reads {
    let mut reads = reads.into_iter().enumerate().peekable();
    let mut flying: VecDeque<(usize, (u64, u64))> = VecDeque::new();
    let mut arrived = Vec::new();
    loop {
        let oldest = flying.front().map(|(n, _)| *n);
        while let Some(read) =
            reads.next_if(|(n, _)| oldest.is_none_or(|oldest| *n < oldest + depth) && flying.len() < depth)
        {
            flying.push_back(read);
        }
        if flying.is_empty() {
            return arrived;
        }
        let at = dice.below(flying.len() as u64) as usize;
        arrived.extend(flying.remove(at).map(|(_, read)| read));
    }
}

/// As the reads of several readers arrive that are about equally fast.
pub(super) fn together(readers: Vec<Reads>, dice: &mut Dice) -> Reads {
    let mut readers: Vec<VecDeque<_>> = readers.into_iter().map(Into::into).collect();
    let mut arrived = Vec::new();
    while !readers.is_empty() {
        let at = dice.below(readers.len() as u64) as usize;
        match readers[at].pop_front() {
            Some(read) => arrived.push(read),
            None => drop(readers.swap_remove(at)),
        }
    }
    arrived
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Demanded,
    /// Prefetched, there from this read on, and not yet read.
    Prefetched(u64),
    Used,
}

/// A cache of unlimited size.
pub(super) struct Simulator<'a> {
    table: &'a ExtentTable,
    pub(super) prefetcher: Prefetcher,
    parts: Vec<State>,
    /// Reads that a prefetched part takes to arrive.
    latency: u64,
    /// Parts that are filled in the background at each read.
    speed: u64,
    filling: bool,
    cursor: u64,
    reads: u64,
    pub(super) now: Duration,
    pub(super) demand: u64,
    /// Of the demand, what had been prefetched and was there.
    pub(super) found: u64,
    pub(super) prefetched: u64,
    pub(super) unread: u64,
    /// How often anything was advised.
    pub(super) advised: u64,
}

impl<'a> Simulator<'a> {
    pub(super) fn new(table: &'a ExtentTable) -> Self {
        Self {
            table,
            prefetcher: Prefetcher::default(),
            parts: vec![State::Absent; table.part_count() as usize],
            latency: 1,
            speed: 2,
            filling: false,
            cursor: 0,
            reads: 0,
            now: Duration::ZERO,
            demand: 0,
            found: 0,
            prefetched: 0,
            unread: 0,
            advised: 0,
        }
    }

    pub(super) fn latency(mut self, reads: u64) -> Self {
        self.latency = reads;
        self
    }

    pub(super) fn run(mut self, reads: impl IntoIterator<Item = (u64, u64)>) -> Self {
        for (offset, len) in reads {
            self.read(offset, len);
        }
        self
    }

    /// Share of the demand that was found prefetched.
    pub(super) fn found_share(&self) -> f64 {
        self.found as f64 / self.demand as f64
    }

    /// Share of what was prefetched that nobody read.
    pub(super) fn unused_share(&self) -> f64 {
        self.unread as f64 / self.prefetched.max(1) as f64
    }

    /// Fails unless so much of the demand was found, and at most a twentieth of what was prefetched is unused.
    pub(super) fn expect(self, found: f64) -> Self {
        assert!(self.found_share() >= found, "found {:.3} of the demand", self.found_share());
        self.frugal()
    }

    /// Fails if more than a twentieth of what was prefetched is unused.
    pub(super) fn frugal(self) -> Self {
        assert!(self.unused_share() < 0.05, "{:.3} of {} MiB unused", self.unused_share(), self.prefetched / MIB);
        self
    }

    fn read(&mut self, offset: u64, len: u64) {
        self.reads += 1;
        self.now += Duration::from_millis(1);
        self.demand += len;
        let mut at = offset;
        while at < offset + len {
            let part = self.table.part_at(at).expect("inside the blob");
            let end = (part.blob_offset + u64::from(part.len).next_multiple_of(4096)).min(offset + len);
            let state = &mut self.parts[part.number as usize];
            match *state {
                State::Absent => *state = State::Demanded,
                State::Demanded => {}
                State::Used => self.found += end - at,
                State::Prefetched(from) => {
                    *state = State::Used;
                    self.unread -= u64::from(part.len);
                    self.prefetcher.useful(u64::from(part.len));
                    if from <= self.reads {
                        self.found += end - at;
                    }
                }
            }
            at = end;
        }
        match self.prefetcher.on_read(self.table, offset, len, self.now) {
            Advice::Nothing => {}
            Advice::Ahead(range) => {
                self.advised += 1;
                let last = self.table.part_at(range.end - 1).expect("inside the blob").number;
                for number in self.table.part_at(range.start).expect("inside the blob").number..=last {
                    self.prefetch(number);
                }
            }
            Advice::Everything => {
                self.advised += 1;
                self.filling = true;
            }
        }
        self.fill();
    }

    fn fill(&mut self) {
        for _ in 0..self.speed {
            let Some(fill) = self.prefetcher.fill(self.now).filter(|_| self.filling) else {
                self.filling = false;
                return;
            };
            let first = self.table.part_at(fill.within.start).expect("inside the blob").number;
            let last = self.table.part_at(fill.within.end - 1).expect("inside the blob").number;
            if self.cursor < first || self.cursor > last {
                self.cursor = first;
            }
            while self.cursor < last && self.parts[self.cursor as usize] != State::Absent {
                self.cursor += 1;
            }
            if self.unread < fill.unread {
                self.prefetch(self.cursor);
            }
        }
    }

    fn prefetch(&mut self, number: u64) {
        let state = &mut self.parts[number as usize];
        if *state == State::Absent {
            *state = State::Prefetched(self.reads + self.latency);
            let bytes = u64::from(self.table.part(number).len);
            self.prefetched += bytes;
            self.unread += bytes;
        }
    }
}
