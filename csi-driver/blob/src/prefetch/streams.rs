//! The sequential readers of a blob, found among reads that arrive out of order.

use std::ops::Range;

use super::MIB;
use super::read::Read;
use super::runs::Runs;
use super::stream::{Bounds, Stream};
use super::trust::{NARROW, Trust};

/// Streams that are followed at a time; the one that waits longest for a read gives way.
const STREAMS: usize = 64;
/// What all windows together may reach.
const ALL_WINDOWS: u64 = 256 * MIB;

/// What a read was to the streams.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) ahead: Option<Range<u64>>,
    /// It continued a stream.
    pub(super) followed: bool,
    /// It continued a stream that goes from file to file.
    pub(super) crossed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    trust: Trust,
    runs: Runs,
    tick: u64,
}

impl Streams {
    /// Takes a read. `cap` bounds the windows.
    pub(super) fn on_read(&mut self, read: &Read, cap: u64, random: bool, blob_end: u64) -> Step {
        self.tick += 1;
        self.trust.demand(read.len());
        self.judge_one();
        let found = self.matching(read);
        let at = match found {
            Some(at) => self.advance(at, read),
            None => self.insert(Stream::new(read, self.tick)),
        };
        let at = self.join(at);
        let crossed = found.is_some() && self.streams[at].crosses();
        Step { ahead: self.ahead(at, read, cap, random, blob_end), followed: found.is_some(), crossed }
    }

    fn advance(&mut self, at: usize, read: &Read) -> usize {
        let stream = &mut self.streams[at];
        if let Some(charged) = stream.charged.take() {
            self.trust.take_back(charged);
        }
        self.trust.right(stream.advance(read, self.tick));
        let gone = stream.next - stream.start;
        if read.end == read.last_end || self.runs.limit().is_some_and(|run| gone > 2 * run) {
            self.runs.went(gone);
        }
        at
    }

    fn ahead(&mut self, at: usize, read: &Read, cap: u64, random: bool, blob_end: u64) -> Option<Range<u64>> {
        let cap = self.trust.cap().min(cap);
        if cap == 0 || !self.streams[at].is_due(read, random) {
            return None;
        }
        let active = self.streams.iter().filter(|stream| stream.window > 0 && stream.charged.is_none()).count();
        let share = (ALL_WINDOWS / active.max(1) as u64).max(NARROW);
        self.streams[at].ahead(read, &Bounds { cap: cap.min(share), run: self.runs.limit(), blob_end })
    }

    /// The stream that the read continues: the one that it is nearest to.
    fn matching(&self, read: &Read) -> Option<usize> {
        let takes = |at: &usize| self.streams[*at].takes(read.offset, read.len());
        (0..self.streams.len()).filter(takes).min_by_key(|&at| self.streams[at].next.abs_diff(read.offset))
    }

    /// Joins the streams that go through the same range as the one at `at`; returns where it is then.
    fn join(&mut self, mut at: usize) -> usize {
        let mut other = 0;
        while other < self.streams.len() {
            if other == at || !self.streams[at].meets(&self.streams[other]) {
                other += 1;
                continue;
            }
            let joined = self.streams.swap_remove(other);
            // The last one took the free place.
            if at == self.streams.len() {
                at = other;
            }
            if let Some(charged) = joined.charged {
                self.trust.take_back(charged);
            }
            self.streams[at].join(&joined);
        }
        at
    }

    fn insert(&mut self, stream: Stream) -> usize {
        if self.streams.len() < STREAMS {
            self.streams.push(stream);
            return self.streams.len() - 1;
        }
        let oldest = (0..STREAMS).min_by_key(|&at| self.streams[at].used).unwrap_or(0);
        self.charge(oldest);
        self.streams[oldest] = stream;
        oldest
    }

    /// Looks whether one of the streams has ended, another one at each read.
    fn judge_one(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        for step in 0..2 {
            let at = (self.tick as usize * 2 + step) % self.streams.len();
            if self.streams[at].stalled(self.tick) {
                self.charge(at);
            }
        }
    }

    /// Holds what a stream asked for and did not read to be wrong, unless it ended where another reader had been.
    fn charge(&mut self, at: usize) {
        let stream = &self.streams[at];
        if stream.charged.is_some() {
            return;
        }
        let (next, run) = (stream.next, stream.stopped_run());
        let joined = self.streams.iter().any(|other| other.start <= next && next < other.next);
        let charged = if joined { 0 } else { stream.unread() };
        self.streams[at].charged = Some(charged);
        self.trust.wrong(charged);
        if let Some(run) = run.filter(|_| !joined) {
            self.runs.stopped(run);
        }
    }
}
