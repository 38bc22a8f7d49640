//! Which parts make room.
//!
//! Parts that were read once leave first, as long as they have more than a share of the pool: so what others use again
//! outlives one pass over a dataset of any size. Among equals the least recently used leave. This is 2Q with the queue of
//! those that left at no cost: an absent part's [`Age`](crate::age::Age) says when it did.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use granary_image::BLOCK_BYTES;

use crate::store::Store;
use crate::turnover::{Found, Turnover};

/// Share of a pool, one in so many bytes, that what was read once has to itself: time for somebody to come back.
const PASSING_SHARE: u64 = 10;
/// But at least as much, up to half of the pool: what is fetched ahead must live until it is read.
const PASSING_BYTES: u64 = 512 << 20;

/// Frees at least `bytes` if the parts of `stores` that nobody holds have as many. Blocks. Returns the bytes freed.
///
/// Every part's state is looked at, which takes about a millisecond for a terabyte of whole parts: callers ask for many parts at once.
pub(crate) fn evict(stores: &[Arc<Store>], turnover: &Turnover, now: u32, bytes: u64) -> u64 {
    let (chosen, found) = choose(stores, now, bytes);
    let mut freed = 0;
    for (store, parts) in chosen {
        let store = &stores[store];
        let clock = turnover.clock();
        let claim = |&part: &u64| {
            let state = store.parts.get(part);
            let claimed = state.begin_evict();
            if claimed {
                state.age.evicted(clock);
            }
            claimed
        };
        match store.evict(parts.into_iter().filter(claim).collect()) {
            Ok(bytes) => freed += bytes,
            Err(error) => tracing::warn!(blob = store.id, %error, "cannot evict"),
        }
    }
    turnover.evicted(found, freed);
    freed
}

/// Parts that together have `bytes`, by store, in the order in which they should leave.
fn choose(stores: &[Arc<Store>], now: u32, bytes: u64) -> (BTreeMap<usize, Vec<u64>>, Found) {
    let (mut passing, mut kept) = (Oldest::new(bytes), Oldest::new(bytes));
    let mut held = 0;
    for (at, store) in stores.iter().enumerate() {
        for (part, state) in store.parts.iter() {
            let Some((blocks, is_held)) = state.present() else { continue };
            if is_held {
                held += u64::from(blocks) * BLOCK_BYTES;
                continue;
            }
            let (is_kept, age) = state.age.of_present(now);
            let of = if is_kept { &mut kept } else { &mut passing };
            of.offer((age, at, part, blocks));
        }
    }
    let found = Found { free: passing.all + kept.all, held };
    let over = passing.all.saturating_sub(passing_bytes(found.free + found.held));
    let mut chosen = Chosen { missing: bytes, by_store: BTreeMap::new() };
    let mut passing = passing.into_oldest_first().into_iter().peekable();
    let mut taken = 0;
    while chosen.missing > 0
        && taken < over
        && let Some(one) = passing.next()
    {
        taken += bytes_of(&one);
        chosen.take(one);
    }
    kept.into_oldest_first().into_iter().chain(passing).for_each(|one| chosen.take(one));
    (chosen.by_store, found)
}

/// What parts that were read once may take of `all` before others leave.
fn passing_bytes(all: u64) -> u64 {
    (all / PASSING_SHARE).max(PASSING_BYTES.min(all / 2))
}

/// Age, store, part and blocks.
type Candidate = (u32, usize, u64, u32);

fn bytes_of((.., blocks): &Candidate) -> u64 {
    u64::from(*blocks) * BLOCK_BYTES
}

struct Chosen {
    missing: u64,
    by_store: BTreeMap<usize, Vec<u64>>,
}

impl Chosen {
    /// Takes a part if bytes are missing.
    fn take(&mut self, one: Candidate) {
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(bytes_of(&one));
            self.by_store.entry(one.1).or_default().push(one.2);
        }
    }
}

/// The oldest candidates that together have some bytes.
struct Oldest {
    /// The youngest is on top.
    heap: BinaryHeap<Reverse<Candidate>>,
    wanted: u64,
    sum: u64,
    /// Bytes of all that were offered.
    all: u64,
}

impl Oldest {
    fn new(wanted: u64) -> Self {
        Self { heap: BinaryHeap::new(), wanted, sum: 0, all: 0 }
    }

    fn offer(&mut self, one: Candidate) {
        self.all += bytes_of(&one);
        if self.sum >= self.wanted && self.heap.peek().is_some_and(|Reverse((youngest, ..))| one.0 <= *youngest) {
            return;
        }
        self.sum += bytes_of(&one);
        self.heap.push(Reverse(one));
        while let Some(Reverse(youngest)) = self.heap.peek()
            && self.sum - bytes_of(youngest) >= self.wanted
        {
            self.sum -= bytes_of(youngest);
            self.heap.pop();
        }
    }

    fn into_oldest_first(self) -> Vec<Candidate> {
        // Sorted by `Reverse`, the largest age comes first.
        self.heap.into_sorted_vec().into_iter().map(|Reverse(one)| one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Ages of the candidates that are left of parts of these sizes in blocks, which are as old as their place says.
    fn left(wanted: u64, sizes: &[u32]) -> Vec<u32> {
        let mut oldest = Oldest::new(wanted * BLOCK_BYTES);
        sizes.iter().zip(0..).for_each(|(&blocks, age)| oldest.offer((age, 0, 0, blocks)));
        assert_eq!(oldest.all / BLOCK_BYTES, sizes.iter().map(|&blocks| u64::from(blocks)).sum::<u64>());
        oldest.into_oldest_first().into_iter().map(|(age, ..)| age).collect()
    }

    #[test]
    fn the_oldest_are_enough_and_no_more() {
        assert_eq!(left(3, &[1, 1, 1, 1, 1, 1]), [5, 4, 3]);
        assert_eq!(left(3, &[9, 1, 9, 1, 1]), [4, 3, 2]);
        assert_eq!(left(3, &[1, 1]), [1, 0]);
        assert_eq!(left(0, &[1, 1]), [] as [u32; 0]);
    }

    #[test]
    fn what_passes_has_a_tenth_or_half_of_a_small_pool() {
        assert_eq!(passing_bytes(100 << 30), 10 << 30);
        assert_eq!(passing_bytes(2 << 30), 512 * MIB);
        assert_eq!(passing_bytes(512 * MIB), 256 * MIB);
    }
}
