//! What to fetch before it is asked for, learned from the reads of a blob. There is no I/O in here, and no clock.
//!
//! Three patterns are followed: files that are read sequentially ([`streams`]), files that are read one after the other,
//! by one or by many ([`streams`] too, as they lie in path order), and epochs, in which each file is read once in random order
//! ([`epoch`]). How far ahead one goes doubles while it is right, and [`trust`] ends it when it is wrong.
mod epoch;
mod read;
mod runs;
mod stream;
mod streams;
#[cfg(test)]
mod tests;
mod trust;

use std::ops::Range;
use std::time::Duration;

use granary_image::{ExtentTable, PART_BYTES};

use self::epoch::Epoch;
use self::read::Read;
use self::streams::Streams;
use self::trust::{Trust, WIDEST};

const MIB: u64 = 1 << 20;
/// Randomness is a share of this.
const ONE: u32 = 1 << 16;
/// Beyond this, more is asked of a stream before it is looked ahead of.
const WARY: u32 = ONE / 4;

/// What should be fetched ahead now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Nothing new; what was advised before still holds.
    Nothing,
    /// The absent parts of these blob addresses, in their order.
    Ahead(Range<u64>),
    /// An epoch in random order goes on: fill in the background as long as [`Prefetcher::fill`] says.
    Everything,
}

/// What to fill during an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// The blob addresses that its files lie in; it grows.
    pub(crate) within: Range<u64>,
    /// Bytes that may be prefetched and not yet read; wait when there are more.
    pub(crate) unread: u64,
}

/// Learns how one blob is read.
#[derive(Debug, Default)]
pub(crate) struct Prefetcher {
    streams: Streams,
    epoch: Epoch,
    outcome: Trust,
    randomness: u32,
}

impl Prefetcher {
    /// Takes one demand read of `len` bytes from `offset` of the blob that `table` describes, always the same one; `now`
    /// is a monotonic time since anything.
    pub(crate) fn on_read(&mut self, table: &ExtentTable, offset: u64, len: u64, now: Duration) -> Advice {
        let Some(read) = Read::new(table, offset, len) else { return Advice::Nothing };
        self.outcome.demand(read.len());
        let step = self.streams.on_read(&read, self.outcome.cap(), self.randomness > WARY, table.blob_bytes());
        // One request for a whole small file is better than two for its halves, whatever the order of the files.
        let orderly = step.followed || read.is_of_small_files() || read.len() >= PART_BYTES;
        self.randomness -= self.randomness / 16;
        if !orderly {
            self.randomness += ONE / 16;
        }
        let everything = self.epoch.on_read(table, &read, step.crossed, now) && self.outcome.cap() > 0;
        match step.ahead {
            Some(range) => Advice::Ahead(range),
            None if everything => Advice::Everything,
            None => Advice::Nothing,
        }
    }

    /// What to fill now, after [`Advice::Everything`]; to be asked again before each few parts. `None` ends it.
    pub(crate) fn fill(&self, now: Duration) -> Option<Fill> {
        let cap = self.outcome.cap();
        let (within, unread) = self.epoch.fill(now).filter(|_| cap > 0)?;
        // The share of the widest window that outcomes permit is permitted here too.
        Some(Fill { within, unread: unread / (WIDEST / cap) })
    }

    /// Prefetched bytes were read.
    pub(crate) fn useful(&mut self, bytes: u64) {
        self.outcome.right(bytes);
    }

    /// Prefetched bytes were evicted or dropped before they were read.
    pub(crate) fn useless(&mut self, bytes: u64) {
        self.outcome.wrong(bytes);
    }

    /// Whether small reads look random now, so that a read fetches the bytes it asks for and not the whole part.
    pub(crate) fn looks_random(&self) -> bool {
        self.randomness > ONE / 2
    }
}
