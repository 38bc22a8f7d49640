//! How far to go ahead, by what became of what was prefetched before.

use super::MIB;

/// The widest window that anything may have.
pub(super) const WIDEST: u64 = 64 * MIB;
/// The window of a new stream, and of all of them when prefetching is tried again.
pub(super) const NARROW: u64 = 2 * MIB;
/// What was wrong says nothing before it is as much as this.
const EVIDENCE: u64 = 8 * MIB;
/// Older outcomes fade: counts are halved when their sum exceeds this.
const MEMORY: u64 = 512 * MIB;
/// Demand that passes before prefetching is tried again, the first time and at most.
const PAUSE: (u64, u64) = (64 * MIB, 4096 * MIB);

/// Bytes that were prefetched and read, or not read, lately.
#[derive(Debug)]
pub(super) struct Trust {
    right: u64,
    wrong: u64,
    /// Bytes of demand until prefetching is tried again.
    paused: u64,
    next_pause: u64,
    /// Tried again after a pause, and not yet right often enough.
    probation: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self { right: 0, wrong: 0, paused: 0, next_pause: PAUSE.0, probation: false }
    }
}

impl Trust {
    /// Bytes were demanded.
    pub(super) fn demand(&mut self, bytes: u64) {
        self.paused = self.paused.saturating_sub(bytes);
    }

    /// Prefetched bytes were read.
    pub(super) fn right(&mut self, bytes: u64) {
        self.right += bytes;
        if self.right >= EVIDENCE {
            self.probation = false;
        }
        if self.right + self.wrong > MEMORY {
            (self.right, self.wrong) = (self.right / 2, self.wrong / 2);
            // A long time in which most was right: the next pause is a first one.
            if self.wrong * 20 < self.right {
                self.next_pause = PAUSE.0;
            }
        }
    }

    /// Prefetched bytes were not read.
    pub(super) fn wrong(&mut self, bytes: u64) {
        self.wrong += bytes;
        let bound = if self.probation { NARROW } else { EVIDENCE };
        if self.wrong >= bound && self.wrong * 5 > self.right + self.wrong {
            *self = Self {
                right: 0,
                wrong: 0,
                paused: self.next_pause,
                next_pause: (self.next_pause * 2).min(PAUSE.1),
                probation: true,
            };
        }
    }

    /// Bytes that were held to be wrong are read after all.
    pub(super) fn take_back(&mut self, bytes: u64) {
        self.wrong = self.wrong.saturating_sub(bytes);
    }

    /// The widest window now; 0 while prefetching pauses.
    pub(super) fn cap(&self) -> u64 {
        let all = self.right + self.wrong;
        match () {
            () if self.paused > 0 => 0,
            () if self.probation => NARROW,
            () if self.wrong < EVIDENCE || self.wrong * 20 <= all => WIDEST,
            () if self.wrong * 12 <= all => WIDEST / 4,
            () => WIDEST / 16,
        }
    }
}
