//! One sequential reader, or several that go through the same range together.

use std::ops::Range;

use super::MIB;
use super::read::Read;
use super::trust::NARROW;

/// A read may come this far behind the farthest one, and that far before it, once the stream is long enough.
const SLACK: (u64, u64) = (32 * MIB, 16 * MIB);
/// What a stream has to have read before a window is opened, unless it made [`FEW`] reads.
const ENOUGH: u64 = 128 * 1024;
const FEW: u32 = 4;
/// Reads and density fade at this span, so that they are those of late.
const FADE: u64 = 64 * MIB;
/// Files that a stream has to have begun before it is followed beyond the end of one.
const FILES: u32 = 3;

/// What bounds a window, besides the stream itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of the widest window.
    pub(super) cap: u64,
    /// Bytes after which readers stop of late.
    pub(super) run: Option<u64>,
    pub(super) blob_end: u64,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) start: u64,
    /// The end of the farthest read.
    pub(super) next: u64,
    /// The first address that was asked ahead, and the end of what was.
    asked: Range<u64>,
    pub(super) window: u64,
    /// Bytes demanded, and bytes that `next` advanced for them, both of late.
    read: u64,
    span: u64,
    /// Bytes demanded since it began.
    total: u64,
    reads: u32,
    files: u32,
    /// `next` is the end of a file.
    ended: bool,
    /// Number of the read that began it, and of its last one.
    born: u64,
    pub(super) used: u64,
    /// What it was charged with for having stopped; it may go on.
    pub(super) charged: Option<u64>,
}

impl Stream {
    pub(super) fn new(read: &Read, tick: u64) -> Self {
        Self {
            start: read.offset,
            next: read.end,
            asked: read.end..read.end,
            window: 0,
            read: read.len(),
            span: read.len(),
            total: read.len(),
            reads: 1,
            files: read.starts,
            ended: read.end == read.last_end,
            born: tick,
            used: tick,
            charged: None,
        }
    }

    /// Whether a read of this place and length may be its next one. A stream of few bytes has little slack, so that
    /// random reads seldom meet one.
    pub(super) fn takes(&self, offset: u64, len: u64) -> bool {
        let proven = if self.dense() { self.total } else { 0 };
        let behind = (self.next - self.start).max(len).min(SLACK.0);
        let before = (proven / 2).max(len).min(SLACK.1);
        offset >= self.next.saturating_sub(behind) && offset <= (self.next + before).max(self.asked.end)
    }

    /// Takes a read; returns how many of its bytes had been asked ahead.
    pub(super) fn advance(&mut self, read: &Read, tick: u64) -> u64 {
        let known = read.end.min(self.asked.end).saturating_sub(read.offset.max(self.asked.start));
        self.used = tick;
        self.span += self.start.saturating_sub(read.offset) + read.end.saturating_sub(self.next);
        self.start = self.start.min(read.offset);
        if read.end >= self.next {
            self.next = read.end;
            self.ended = read.end == read.last_end;
        }
        self.settle();
        if self.read == self.span {
            // It was read before: that is no reason to look ahead.
            return known;
        }
        self.read = self.span.min(self.read + read.len());
        self.total += read.len();
        self.reads = self.reads.saturating_add(1);
        self.files = self.files.saturating_add(read.starts);
        if self.span > FADE {
            (self.read, self.span) = (self.read / 2, self.span / 2);
        }
        known
    }

    /// Whether `other` goes through the same range, so that they are one: together they leave few gaps.
    pub(super) fn meets(&self, other: &Stream) -> bool {
        let (large, small) = if self.span >= other.span { (self, other) } else { (other, self) };
        if small.start > large.next + SLACK.1 || small.next + SLACK.0 < large.next {
            return false;
        }
        let added = large.start.saturating_sub(small.start) + small.next.saturating_sub(large.next);
        added == 0 || (large.read + small.read) * 4 >= (large.span + added) * 3
    }

    /// Takes over another stream that goes through the same range.
    pub(super) fn join(&mut self, other: &Stream) {
        let (large, small) = if self.span >= other.span { (&*self, other) } else { (other, &*self) };
        let added = large.start.saturating_sub(small.start) + small.next.saturating_sub(large.next);
        let span = large.span + added;
        self.start = self.start.min(other.start);
        if other.next > self.next {
            self.next = other.next;
            self.ended = other.ended;
        }
        self.asked = match (self.asked.is_empty(), other.asked.is_empty()) {
            (_, true) => self.asked.clone(),
            (true, false) => other.asked.clone(),
            (false, false) => self.asked.start.min(other.asked.start)..self.asked.end.max(other.asked.end),
        };
        self.settle();
        self.window = self.window.max(other.window);
        self.span = span;
        self.read = span.min(self.read + other.read);
        self.total += other.total;
        self.reads = self.reads.saturating_add(other.reads);
        self.files = self.files.saturating_add(other.files);
        self.born = self.born.min(other.born);
        self.used = self.used.max(other.used);
    }

    /// Whether it is followed from file to file.
    pub(super) fn crosses(&self) -> bool {
        self.files >= FILES && self.dense()
    }

    /// Asked ahead and not read.
    pub(super) fn unread(&self) -> u64 {
        self.asked.end - self.next
    }

    /// How far it went, if it was looked ahead of and did not come to the end of its file.
    pub(super) fn stopped_run(&self) -> Option<u64> {
        (self.window > 0 && !self.ended && !self.crosses()).then_some(self.next - self.start)
    }

    /// Whether it had no read for so long that it has probably ended, measured by how often it had one before.
    pub(super) fn stalled(&self, tick: u64) -> bool {
        let gap = (self.used - self.born) / u64::from(self.reads);
        tick - self.used > 8 + 8 * (gap + 1)
    }

    /// Whether, now that `read` was taken, it is time to fetch ahead; usually not, as that is done in steps.
    pub(super) fn is_due(&self, read: &Read, random: bool) -> bool {
        self.unread() * 2 < self.window.max(1) && self.ready(read, random)
    }

    /// What to fetch ahead when it is time.
    pub(super) fn ahead(&mut self, read: &Read, bounds: &Bounds) -> Option<Range<u64>> {
        let window = if self.window == 0 { NARROW } else { self.window * 2 }.min(bounds.cap);
        let clip = match bounds.run {
            _ if self.crosses() => bounds.blob_end,
            Some(run) if self.next - self.start <= 2 * run => read.last_end.min(self.start + run),
            _ => read.last_end,
        };
        let from = self.asked.end.max(self.next);
        let to = (self.next + window).min(clip);
        if to <= from {
            return None;
        }
        self.window = window;
        if self.asked.is_empty() {
            self.asked.start = from;
        }
        self.asked.end = to;
        Some(from..to)
    }

    /// Keeps `asked` from ending before `next`.
    fn settle(&mut self) {
        if self.asked.is_empty() {
            self.asked.start = self.next;
        }
        self.asked.end = self.asked.end.max(self.next);
    }

    fn dense(&self) -> bool {
        self.read * 4 >= self.span * 3
    }

    /// Whether what was read so far is reason enough to look ahead; if many reads are `random`, more is asked for.
    fn ready(&self, read: &Read, random: bool) -> bool {
        match () {
            () if random => self.reads >= 2 * FEW && self.read * 10 >= self.span * 9,
            () if self.reads == 1 => read.opens() && read.len() >= ENOUGH,
            () => self.dense() && (self.total >= ENOUGH || self.reads >= FEW),
        }
    }
}
