//! Room for a part, before it is fetched.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use granary_image::{BLOCK_BYTES, PART_BYTES};

use crate::blob::Blob;
use crate::budget::{Reservation, Short};
use crate::evict::evict;
use crate::flight::Buffer;
use crate::maintain::blocking;
use crate::pool::Pool;
use crate::store::Store;

/// One eviction frees this share of what the pool holds, within bounds: each costs a sync of the map.
const BATCH_SHARE: u64 = 32;
const LARGEST_BATCH: u64 = 256 << 20;

/// Evictions for one part. A filesystem may tell of freed space late: no reason to empty the cache.
const ROUNDS: usize = 2;

impl Pool {
    /// Reserves `bytes`, evicting what was used least recently. `None` if nothing can make room.
    pub(crate) async fn make_room(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if let Ok(reservation) = self.budget.reserve(bytes) {
            return Some(reservation);
        }
        let _turn = self.room.lock().await;
        for _ in 0..ROUNDS {
            let short = match self.budget.reserve(bytes) {
                Ok(reservation) => return Some(reservation),
                Err(Short(short)) => short,
            };
            let batch = (self.budget.used() / BATCH_SHARE).clamp(PART_BYTES, LARGEST_BATCH);
            if self.evict(short.max(batch)).await == 0 {
                return None;
            }
        }
        self.budget.reserve(bytes).ok()
    }

    /// Frees at least `bytes` if what nobody reads has as many. Returns the bytes freed.
    pub(crate) async fn evict(self: &Arc<Self>, bytes: u64) -> u64 {
        let pool = self.clone();
        let work = move || {
            let stores = pool.stores();
            let _one = pool.evictor.lock();
            if pool.turnover.is_regretted() {
                // Else those who share what is not held would go on evicting each other's parts.
                pool.give_back();
            }
            let mut freed = evict(&stores, &pool.turnover, pool.tick(), bytes);
            while freed < bytes && pool.give_back() {
                freed += evict(&stores, &pool.turnover, pool.tick(), bytes - freed);
            }
            pool.freed(freed);
            freed
        };
        blocking(work).await.unwrap_or(0)
    }

    /// Drops a part whose bytes are not sound. False if it is absent, held or being evicted already.
    pub(crate) async fn drop_part(self: &Arc<Self>, store: &Arc<Store>, number: u64) -> bool {
        if !store.parts.get(number).begin_evict() {
            return false;
        }
        let (pool, store) = (self.clone(), store.clone());
        let work = move || {
            let freed = store.evict(vec![number]);
            if let Err(error) = &freed {
                tracing::warn!(blob = store.id, %error, "cannot drop a damaged part");
            }
            pool.freed(freed.unwrap_or(0));
        };
        blocking(work).await;
        true
    }

    /// Counts what was evicted, and wakes those who wait for it.
    pub(crate) fn freed(&self, bytes: u64) {
        self.budget.release(bytes);
        self.evicted.notify_waiters();
    }
}

impl Blob {
    /// Memory for a part of `len` bytes, once the dataset's share of it has room.
    pub(crate) async fn buffer(&self, len: u32) -> Buffer {
        let blocks = self.buffers.take(len.div_ceil(BLOCK_BYTES as u32) as usize).await;
        Buffer { bytes: Vec::with_capacity(len as usize), _blocks: blocks }
    }

    /// The cache's file did not take what was written to it.
    pub(crate) fn write_failed(&self, error: &io::Error) {
        self.counters.failed_writes.fetch_add(1, Relaxed);
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if is_full && !self.pool.budget.found_full() {
            tracing::debug!(blob = self.store.id, %error, "the cache is still full: serving without it");
            return;
        }
        tracing::warn!(blob = self.store.id, %error, "cannot write to the cache: serving without it");
        self.pool.hurry.notify_one();
    }
}
