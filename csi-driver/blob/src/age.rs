//! When a part was used last, and whether it was used again: what eviction goes by. 4 bytes a part, no locks.
//!
//! A part that was read once is *passing*: one pass over a large dataset leaves nothing else behind. It is *kept* once
//! somebody came back to it. As long as a part is present, its age counts reads of the pool; once it was evicted, it counts
//! what was evicted since. So a part that comes back soon after it was evicted is known, and kept.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Reads of a part with fewer other reads than this between them are one visit: a file that is read once is read in many
/// pieces, among those of other readers.
pub(crate) const VISIT: u32 = 1024;

const KEPT: u32 = 1 << 31;
const STAMP: u32 = KEPT - 1;

/// The age of one part.
#[derive(Default)]
pub(crate) struct Age(AtomicU32);

impl Age {
    /// The part is filled at `now`; whether it is kept is known already.
    pub(crate) fn begin(&self, now: u32) {
        self.0.store(self.0.load(Relaxed) & KEPT | now & STAMP, Relaxed);
    }

    /// The part is used at `now`. Its first use, which may come long after it was fetched ahead, is no second visit.
    ///
    /// Of two at once one may be lost, which matters to nobody.
    pub(crate) fn used(&self, now: u32, is_first: bool) {
        let word = self.0.load(Relaxed);
        let again = !is_first && since(word, now) > VISIT;
        self.0.store(word & KEPT | now & STAMP | if again { KEPT } else { 0 }, Relaxed);
    }

    /// Keeps the part in preference to those that were read once.
    pub(crate) fn keep(&self) {
        self.0.fetch_or(KEPT, Relaxed);
    }

    /// Whether the part is kept, and how many reads ago it was used.
    pub(crate) fn of_present(&self, now: u32) -> (bool, u32) {
        let word = self.0.load(Relaxed);
        (word & KEPT != 0, since(word, now))
    }

    /// The part leaves, and not to make room.
    pub(crate) fn forget(&self) {
        self.0.store(0, Relaxed);
    }

    /// The part leaves to make room, when `clock` blocks have been evicted.
    pub(crate) fn evicted(&self, clock: u32) {
        // 0 is for what was never there.
        self.0.store((clock & STAMP).max(1), Relaxed);
    }

    /// Blocks that were evicted since this absent part was, by a clock that stands at `clock`. `None` if it was not there.
    pub(crate) fn absence(&self, clock: u32) -> Option<u32> {
        let word = self.0.load(Relaxed);
        (word & STAMP != 0).then(|| since(word, clock))
    }
}

fn since(word: u32, now: u32) -> u32 {
    now.wrapping_sub(word) & STAMP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_in_many_pieces_is_one() {
        let age = Age::default();
        age.begin(7);
        (0..100).for_each(|n| age.used(7 + n * VISIT, n == 0));
        assert_eq!(age.of_present(7 + 99 * VISIT), (false, 0));
        age.used(7 + 100 * VISIT + 1, false);
        assert_eq!(age.of_present(8 + 102 * VISIT), (true, 2 * VISIT));
    }

    #[test]
    fn the_first_use_may_come_late() {
        let age = Age::default();
        age.begin(0);
        age.used(10 * VISIT, true);
        assert!(!age.of_present(10 * VISIT).0);
    }

    #[test]
    fn what_comes_back_is_known() {
        let age = Age::default();
        assert_eq!(age.absence(5), None);
        age.begin(3);
        age.keep();
        age.evicted(0);
        assert_eq!(age.absence(11), Some(10), "the clock's first moment is taken for its second");
        age.begin(9);
        assert_eq!(age.of_present(9), (false, 0), "whether it is kept is decided anew");
        age.forget();
        assert_eq!(age.absence(11), None);
    }

    #[test]
    fn clocks_may_wrap() {
        let age = Age::default();
        age.begin(u32::MAX);
        assert_eq!(age.of_present(4), (false, 5));
        age.evicted(STAMP);
        assert_eq!(age.absence(STAMP.wrapping_add(3)), Some(3));
    }
}
