//! A pool's background work: parts become durable, and the limits hold also when others fill the disk.

use std::sync::Arc;
use std::time::Duration;

use crate::pool::Pool;
use crate::store::Store;
use crate::sync::{sleep, spawn, spawn_blocking};

/// A crash of the machine loses what was fetched within this time.
const PERIOD: Duration = Duration::from_secs(5);

/// Or within this many bytes of one blob.
const DIRTY_BYTES: u64 = 256 << 20;

/// Works in the background as long as the pool exists.
pub(crate) fn start(pool: &Arc<Pool>) {
    let weak = Arc::downgrade(pool);
    spawn(async move {
        loop {
            let Some(pool) = weak.upgrade() else { return };
            flush(&pool).await;
            keep_limits(&pool).await;
            drop(pool);
            wait(&weak).await;
        }
    });
}

async fn wait(weak: &std::sync::Weak<Pool>) {
    // A strong reference would keep the pool, and its lock on the directory, for a whole period.
    let Some(hurry) = weak.upgrade().map(|pool| pool.hurry.clone()) else { return };
    tokio::select! {
        () = sleep(PERIOD) => {}
        () = hurry.notified() => {}
    }
}

/// Evicts what limit and floor do not allow any more, and removes what is empty.
pub(crate) async fn keep_limits(pool: &Arc<Pool>) {
    let excess = pool.budget.excess();
    if excess > 0 {
        pool.evict(excess).await;
    }
    let pool = pool.clone();
    blocking(move || pool.remove_empty()).await;
}

/// Runs what may wait for the disk where it stops no reader.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    // An error means that the runtime is going down or that `work` panicked, which was reported.
    spawn_blocking(work).await.ok()
}

/// Makes durable what is present in all blobs.
pub(crate) async fn flush(pool: &Arc<Pool>) {
    for store in pool.stores() {
        let pool = pool.clone();
        blocking(move || flush_store(&pool, &store)).await;
    }
}

pub(crate) fn flush_store(pool: &Pool, store: &Store) {
    if let Err((error, dropped)) = store.flush() {
        tracing::warn!(blob = store.id, %error, dropped, "cannot make cached parts durable");
        pool.freed(dropped);
    }
}

impl Pool {
    /// A part of `store` became present.
    pub(crate) fn filled(&self, store: &Store) {
        if store.dirty_bytes() > DIRTY_BYTES {
            self.hurry.notify_one();
        }
    }
}
