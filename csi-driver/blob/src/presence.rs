//! The state of each part in memory: 12 bytes, no locks.

use std::sync::OnceLock;

use crate::age::Age;
use crate::hold::Unready;
use crate::sync::atomic::{AtomicU32, Ordering::*};

/// Readers that hold the part now.
const READERS: u32 = (1 << 17) - 1;
/// It was fetched ahead, and nobody has read it.
const AHEAD: u32 = 1 << 17;
/// Blocks that the part takes, 0 while absent.
const BLOCKS_SHIFT: u32 = 18;
const BLOCKS: u32 = 0x1ff << BLOCKS_SHIFT;
/// Its bytes are in the file.
const PRESENT: u32 = 1 << 27;
/// Its bytes were checked since the blob was opened.
const VERIFIED: u32 = 1 << 28;
/// The map on the disk says so.
const DURABLE: u32 = 1 << 29;
/// Being written to the map: its bytes were in the file when the sync began.
const SYNCING: u32 = 1 << 30;
/// Being filled or evicted: nobody else may touch its range of the file.
const BUSY: u32 = 1 << 31;

/// One part. All changes of its state go through here.
#[derive(Default)]
pub(crate) struct PartState {
    word: AtomicU32,
    crc: AtomicU32,
    pub(crate) age: Age,
}

/// What a part is to those who do not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    /// Being filled or evicted.
    Busy,
    /// In the file, but not checked since the blob was opened.
    Unverified,
    Present,
}

impl PartState {
    /// Changes the word by `change` unless that says `None`; false then.
    fn change(&self, change: impl Fn(u32) -> Option<u32>) -> bool {
        self.word.fetch_update(AcqRel, Acquire, change).is_ok()
    }

    pub(crate) fn presence(&self) -> Presence {
        let word = self.word.load(Acquire);
        match (word & BUSY != 0, word & PRESENT != 0, word & VERIFIED != 0) {
            (true, ..) => Presence::Busy,
            (false, false, _) => Presence::Absent,
            (false, true, false) => Presence::Unverified,
            (false, true, true) => Presence::Present,
        }
    }

    /// Takes a reader's hold on verified bytes: the part is not evicted until [`Self::unpin`].
    pub(crate) fn pin(&self, now: u32) -> bool {
        let pinned = self.word.fetch_update(AcqRel, Acquire, |w| {
            (w & (BUSY | PRESENT | VERIFIED) == PRESENT | VERIFIED && w & READERS < READERS).then_some(w + 1)
        });
        pinned.is_ok_and(|was| {
            self.age.used(now, was & AHEAD != 0);
            true
        })
    }

    /// As [`Self::pin`], for who reads the file itself and needs the part to survive a crash. Gives its blocks.
    pub(crate) fn hold(&self) -> Result<u32, Unready> {
        self.hold_if(PRESENT | VERIFIED | DURABLE)
    }

    /// As [`Self::hold`], also if the part was not checked.
    pub(crate) fn hold_loaded(&self) -> Result<u32, Unready> {
        self.hold_if(PRESENT | DURABLE)
    }

    fn hold_if(&self, flags: u32) -> Result<u32, Unready> {
        let held = self.change(|w| (w & (BUSY | flags) == flags && w & READERS < READERS).then_some(w + 1));
        if held { Ok(self.blocks()) } else { Err(self.unready().unwrap_or(Unready::Absent)) }
    }

    /// Why [`Self::hold`] would fail.
    pub(crate) fn unready(&self) -> Option<Unready> {
        let word = self.word.load(Acquire);
        match (word & (BUSY | PRESENT) == PRESENT, word & VERIFIED != 0, word & DURABLE != 0) {
            (false, ..) => Some(Unready::Absent),
            (true, false, _) => Some(Unready::Unverified),
            (true, true, false) => Some(Unready::NotDurable),
            (true, true, true) => None,
        }
    }

    /// As [`Self::hold_loaded`], for a look at the bytes. That is no use of the part.
    pub(crate) fn begin_check(&self) -> bool {
        self.change(|w| (w & (BUSY | PRESENT) == PRESENT && w & READERS < READERS).then_some(w + 1))
    }

    /// Whether an orderly end can vouch for the part: it is absent, or its bytes were checked and nobody changes them now.
    pub(crate) fn is_settled(&self) -> bool {
        let word = self.word.load(Acquire);
        word & PRESENT == 0 || word & (BUSY | VERIFIED) == VERIFIED
    }

    /// Gives a hold back.
    pub(crate) fn unpin(&self) {
        self.word.fetch_sub(1, Release);
    }

    /// Claims an absent part for filling.
    pub(crate) fn begin_fill(&self) -> bool {
        self.change(|w| (w & (BUSY | PRESENT) == 0).then_some(w | BUSY))
    }

    /// Ends a fill: the part is present, checked, and held by one reader; `ahead` says that nobody has asked for it yet.
    pub(crate) fn filled(&self, blocks: u32, crc: u32, now: u32, ahead: bool) {
        self.crc.store(crc, Relaxed);
        self.age.begin(now);
        let ahead = if ahead { AHEAD } else { 0 };
        self.word.store(PRESENT | VERIFIED | ahead | blocks << BLOCKS_SHIFT | 1, Release);
    }

    /// Whether the part was fetched ahead and nobody has read it.
    pub(crate) fn is_ahead(&self) -> bool {
        self.word.load(Relaxed) & AHEAD != 0
    }

    /// Somebody reads the part; true for the first who reads one that was fetched ahead.
    pub(crate) fn used(&self) -> bool {
        self.is_ahead() && self.word.fetch_and(!AHEAD, Relaxed) & AHEAD != 0
    }

    /// Whether the map on the disk has the part: its pages in memory can be dropped.
    pub(crate) fn is_durable(&self) -> bool {
        self.word.load(Relaxed) & DURABLE != 0
    }

    /// Ends a fill or an eviction: the part is absent.
    pub(crate) fn absent(&self) {
        self.word.store(0, Release);
    }

    /// The map on the disk has the part; `trusted` if its bytes need no check.
    pub(crate) fn loaded(&self, blocks: u32, crc: u32, trusted: bool) {
        self.crc.store(crc, Relaxed);
        let verified = if trusted { VERIFIED } else { 0 };
        self.word.store(PRESENT | DURABLE | verified | blocks << BLOCKS_SHIFT, Release);
    }

    /// The part's bytes match their checksum.
    pub(crate) fn verified(&self) {
        self.change(|w| (w & (BUSY | PRESENT) == PRESENT).then_some(w | VERIFIED));
    }

    /// The part's bytes are in doubt: the next read checks them.
    pub(crate) fn doubted(&self) {
        self.word.fetch_and(!VERIFIED, AcqRel);
    }

    /// Claims a present part that nobody holds for eviction. It stays out of reach until [`Self::absent`] or [`Self::keep`].
    pub(crate) fn begin_evict(&self) -> bool {
        let claimed =
            self.change(|w| (w & (BUSY | PRESENT) == PRESENT && w & READERS == 0).then_some((w | BUSY) & !SYNCING));
        if claimed {
            self.age.forget();
        }
        claimed
    }

    /// An eviction failed: the part is as it was, but must be written to the map again.
    pub(crate) fn keep(&self) {
        self.change(|w| Some(w & !(BUSY | DURABLE)));
    }

    /// Marks a present part before the sync of the data.
    pub(crate) fn begin_sync(&self) -> bool {
        self.change(|w| (w & (BUSY | PRESENT | DURABLE) == PRESENT).then_some(w | SYNCING))
    }

    /// True if the part is still the one that was marked before the sync.
    pub(crate) fn is_synced(&self) -> bool {
        self.word.load(Acquire) & SYNCING != 0
    }

    /// The map on the disk has the part now, if it is still the marked one.
    pub(crate) fn synced(&self) {
        self.change(|w| (w & SYNCING != 0).then_some(w & !SYNCING | DURABLE));
    }

    pub(crate) fn crc(&self) -> u32 {
        self.crc.load(Relaxed)
    }

    pub(crate) fn blocks(&self) -> u32 {
        (self.word.load(Acquire) & BLOCKS) >> BLOCKS_SHIFT
    }

    /// Blocks of a part that is there, and whether somebody holds it.
    pub(crate) fn present(&self) -> Option<(u32, bool)> {
        let word = self.word.load(Relaxed);
        (word & (BUSY | PRESENT) == PRESENT).then_some(((word & BLOCKS) >> BLOCKS_SHIFT, word & READERS != 0))
    }
}

/// Fewer where a test tries many orders of the events of each part.
const FIRST_BITS: u32 = if cfg!(feature = "shuttle") { 1 } else { 10 };

/// The parts of one blob. It only grows, and what is there never moves, so readers need no lock.
pub(crate) struct PartStates {
    /// The first has `1 << FIRST_BITS` parts and each further one as many as all before it.
    segments: [OnceLock<Box<[PartState]>>; 40],
}

impl PartStates {
    pub(crate) fn new() -> Self {
        Self { segments: [const { OnceLock::new() }; 40] }
    }

    fn place(number: u64) -> (usize, usize) {
        if number < 1 << FIRST_BITS {
            return (0, number as usize);
        }
        let top = 63 - number.leading_zeros();
        ((top - FIRST_BITS + 1) as usize, (number - (1 << top)) as usize)
    }

    fn capacity(segment: usize) -> usize {
        1 << (FIRST_BITS as usize + segment.saturating_sub(1))
    }

    /// Part `number`, made absent where it was never asked for.
    pub(crate) fn get(&self, number: u64) -> &PartState {
        let (segment, at) = Self::place(number);
        let parts =
            self.segments[segment].get_or_init(|| (0..Self::capacity(segment)).map(|_| PartState::default()).collect());
        &parts[at]
    }

    /// Every part that was ever asked for, and its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &PartState)> {
        self.segments.iter().enumerate().flat_map(|(segment, parts)| {
            let first = if segment == 0 { 0 } else { Self::capacity(segment) as u64 };
            parts.get().into_iter().flat_map(|p| p.iter()).zip(first..).map(|(part, number)| (number, part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_places_agree() {
        let states = PartStates::new();
        for number in [0, 1, 1023, 1024, 1025, 2047, 2048, 5000, 100_000] {
            states.get(number).loaded(7, number as u32, false);
        }
        let found: Vec<_> = states.iter().filter(|(_, p)| p.blocks() == 7).map(|(n, p)| (n, p.crc())).collect();
        assert_eq!(found, [0, 1, 1023, 1024, 1025, 2047, 2048, 5000, 100_000].map(|n| (n, n as u32)));
    }

    #[test]
    fn a_held_part_is_not_evicted() {
        let part = PartState::default();
        assert!(!part.pin(1) && part.begin_fill() && !part.begin_fill() && !part.pin(1));
        part.filled(256, 5, 1, false);
        assert!(!part.begin_evict(), "the fill's own hold");
        assert!(part.pin(2));
        part.unpin();
        part.unpin();
        assert_eq!((part.present(), part.age.of_present(5)), (Some((256, false)), (false, 3)));
        assert!(part.begin_evict() && !part.pin(3) && !part.begin_fill());
        part.absent();
        assert_eq!(part.presence(), Presence::Absent);
    }

    #[test]
    fn a_part_filled_again_is_not_the_one_that_was_synced() {
        let part = PartState::default();
        assert!(part.begin_fill());
        part.filled(1, 5, 1, false);
        part.unpin();
        assert!(part.begin_sync());
        assert!(part.begin_evict() && !part.is_synced());
        part.absent();
        assert!(part.begin_fill());
        part.filled(1, 5, 1, false);
        assert!(!part.is_synced());
        part.synced();
        assert!(!part.is_durable());
    }

    #[test]
    fn loaded_parts_are_checked_before_they_are_read() {
        let part = PartState::default();
        part.loaded(3, 9, false);
        assert_eq!(part.presence(), Presence::Unverified);
        assert!(!part.pin(1));
        part.verified();
        assert!(part.pin(1) && part.is_durable());
        part.loaded(3, 9, true);
        assert!(part.pin(1) && part.is_durable());
    }

    #[test]
    fn a_look_at_a_part_keeps_it_and_an_end_vouches_for_checked_ones_only() {
        let part = PartState::default();
        assert!(part.is_settled() && !part.begin_check());
        part.loaded(2, 5, false);
        assert!(!part.is_settled() && part.begin_check() && !part.begin_evict());
        part.verified();
        assert!(part.is_settled());
        part.unpin();
        assert!(part.begin_evict() && !part.is_settled() && !part.begin_check());
        part.absent();
        assert!(part.is_settled());
    }

    #[test]
    fn only_checked_and_durable_parts_are_held() {
        let part = PartState::default();
        assert_eq!((part.hold(), part.hold_loaded()), (Err(Unready::Absent), Err(Unready::Absent)));
        assert!(part.begin_fill());
        assert_eq!(part.hold(), Err(Unready::Absent));
        part.filled(2, 5, 1, false);
        part.unpin();
        assert_eq!((part.hold(), part.hold_loaded()), (Err(Unready::NotDurable), Err(Unready::NotDurable)));
        assert!(part.begin_sync());
        part.synced();
        assert_eq!(part.hold(), Ok(2));
        assert!(!part.begin_evict() && part.present() == Some((2, true)));
        part.unpin();
        part.doubted();
        assert_eq!(part.hold(), Err(Unready::Unverified));
        assert_eq!(part.hold_loaded(), Ok(2));
        part.unpin();
        assert!(part.begin_evict());
        assert_eq!((part.hold(), part.hold_loaded()), (Err(Unready::Absent), Err(Unready::Absent)));
    }
}
