//! How much of what is evicted has to be fetched again: tells a pool that is passed through from one that is too small.

use crate::age::Age;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use granary_image::BLOCK_BYTES;

/// One in so many bytes that were evicted is fetched again: others use them, and room that is held natively is asked for.
const REGRET: u64 = 8;

/// What an eviction found in the pool, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Parts that could be evicted.
    pub(crate) free: u64,
    /// Parts that somebody holds: mostly those that are read natively.
    pub(crate) held: u64,
}

/// Evictions of a pool, and what they cost.
#[derive(Default)]
pub(crate) struct Turnover {
    /// Blocks evicted so far; wraps.
    evicted: AtomicU32,
    /// Blocks evicted when it was judged last.
    judged: AtomicU32,
    /// Bytes fetched again since then that would not have been evicted, had there been the room that is held.
    regretted: AtomicU64,
    free: AtomicU64,
    held: AtomicU64,
}

impl Turnover {
    /// The clock that [`Age`]s of absent parts go by.
    pub(crate) fn clock(&self) -> u32 {
        self.evicted.load(Relaxed)
    }

    /// Takes what an eviction found, and what it freed.
    pub(crate) fn evicted(&self, found: Found, freed: u64) {
        self.free.store(found.free, Relaxed);
        self.held.store(found.held, Relaxed);
        self.evicted.fetch_add((freed / BLOCK_BYTES) as u32, Relaxed);
    }

    /// A part of `bytes` is fetched that may have been here. If it left so lately that the whole pool would have had it still,
    /// it is kept from now on.
    pub(crate) fn returns(&self, age: &Age, bytes: u64) {
        let Some(absence) = age.absence(self.clock()) else { return };
        let absence = u64::from(absence) * BLOCK_BYTES;
        let held = self.held.load(Relaxed);
        if absence > held + self.free.load(Relaxed) {
            age.forget();
            return;
        }
        age.keep();
        if absence <= held {
            self.regretted.fetch_add(bytes, Relaxed);
        }
    }

    /// Whether those who use what is not held come back to what made room, so that held room is to be asked for. Judged
    /// once each time as much was evicted as was free to be.
    pub(crate) fn is_regretted(&self) -> bool {
        let clock = self.clock();
        let evicted = u64::from(clock.wrapping_sub(self.judged.load(Relaxed))) * BLOCK_BYTES;
        if evicted == 0 || evicted < self.free.load(Relaxed) {
            return false;
        }
        self.judged.store(clock, Relaxed);
        self.regretted.swap(0, Relaxed) * REGRET >= evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: u64 = 100 * BLOCK_BYTES;

    /// A pool of 10 things that can be evicted and 20 that are held; evicts one that was there once.
    fn evict(turnover: &Turnover, age: &Age) {
        age.evicted(turnover.clock());
        turnover.evicted(Found { free: 10 * BLOCKS, held: 20 * BLOCKS }, BLOCKS);
    }

    fn returns(turnover: &Turnover, age: &Age) -> bool {
        turnover.returns(age, BLOCKS);
        age.begin(0);
        age.of_present(0).0
    }

    #[test]
    fn a_pass_regrets_nothing() {
        let turnover = Turnover::default();
        for _ in 0..100 {
            let age = Age::default();
            assert!(!returns(&turnover, &age));
            evict(&turnover, &age);
            assert!(!turnover.is_regretted());
        }
    }

    #[test]
    fn what_comes_back_soon_is_kept_and_asks_for_held_room() {
        let turnover = Turnover::default();
        let ages: Vec<_> = (0..12).map(|_| Age::default()).collect();
        ages.iter().for_each(|age| evict(&turnover, age));
        assert!(!turnover.is_regretted(), "nothing came back");
        let mut asked = 0;
        for age in ages.iter().cycle().take(30) {
            assert!(returns(&turnover, age));
            evict(&turnover, age);
            asked += u32::from(turnover.is_regretted());
        }
        assert_eq!(asked, 3, "once for each time that the free room went");
    }

    #[test]
    fn what_comes_back_late_is_as_new() {
        let turnover = Turnover::default();
        let (early, late) = (Age::default(), Age::default());
        evict(&turnover, &late);
        (0..10).for_each(|_| evict(&turnover, &Age::default()));
        evict(&turnover, &early);
        (0..20).for_each(|_| evict(&turnover, &Age::default()));
        assert!(!returns(&turnover, &late), "no room here would have kept it");
        assert!(returns(&turnover, &early));
        assert!(!turnover.is_regretted(), "not for held room");
    }
}
