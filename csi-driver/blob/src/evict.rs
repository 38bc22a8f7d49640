//! Which parts make room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use granary_image::BLOCK_BYTES;

use crate::store::Store;

/// Frees at least `bytes` if the least recently used parts of `stores` that nobody holds have as many. Blocks. Returns
/// the bytes freed.
///
/// Every part's state is looked at, which takes about a millisecond for a terabyte of whole parts: callers ask for many parts at once.
pub(crate) fn evict(stores: &[Arc<Store>], now: u32, bytes: u64) -> u64 {
    let mut freed = 0;
    for (store, parts) in oldest(stores, now, bytes) {
        let store = &stores[store];
        let claimed = parts.into_iter().filter(|&part| store.parts.get(part).begin_evict()).collect();
        match store.evict(claimed) {
            Ok(bytes) => freed += bytes,
            Err(error) => tracing::warn!(blob = store.id, %error, "cannot evict"),
        }
    }
    freed
}

/// The oldest parts that together have `bytes`, by store.
fn oldest(stores: &[Arc<Store>], now: u32, bytes: u64) -> BTreeMap<usize, Vec<u64>> {
    // The youngest of those chosen is on top.
    let mut chosen = BinaryHeap::<Reverse<(u32, usize, u64, u32)>>::new();
    let mut sum = 0;
    for (at, store) in stores.iter().enumerate() {
        for (part, state) in store.parts.iter() {
            let Some((age, blocks)) = state.evictable(now) else { continue };
            if sum >= bytes && chosen.peek().is_some_and(|Reverse((youngest, ..))| age <= *youngest) {
                continue;
            }
            chosen.push(Reverse((age, at, part, blocks)));
            sum += u64::from(blocks) * BLOCK_BYTES;
            while let Some(Reverse((.., blocks))) = chosen.peek()
                && sum - u64::from(*blocks) * BLOCK_BYTES >= bytes
            {
                sum -= u64::from(*blocks) * BLOCK_BYTES;
                chosen.pop();
            }
        }
    }
    let mut by_store = BTreeMap::<usize, Vec<u64>>::new();
    for Reverse((_, at, part, _)) in chosen {
        by_store.entry(at).or_default().push(part);
    }
    by_store
}
