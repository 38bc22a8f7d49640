//! Checks again and again what the cache has against its checksums: a disk that loses bits tells nobody.
//!
//! Everything is read past the page cache, as who reads natively gets it, by one thread of the lowest priority, one part after
//! the other and so many bytes a second at most. A part that is damaged is dropped, and fetched again when somebody wants it.
//! One that the kernel may be reading cannot be dropped: its bytes are fetched, compared with its checksum and written in place.

mod eye;
mod mend;
mod pace;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::ops::{Add, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use granary_image::BLOCK_BYTES;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

use self::eye::Eye;
use self::mend::Unmended;
use self::pace::Pace;
use crate::pool::Pool;
use crate::store::{Seen, Store};

/// Bytes a second that are checked if nobody says otherwise: a terabyte in a day and a half, and next to nothing of what a disk
/// gives.
pub const SCRUB_RATE: u64 = 8 << 20;

/// Passes over the whole cache begin at most so often.
const PASS: Duration = Duration::from_secs(24 * 60 * 60);

/// What was checked since a pool was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Bytes that were read and compared with their checksums, by the scrub.
    pub checked_bytes: u64,
    /// Passes over the whole cache that were completed.
    pub passes: u64,
    /// Parts that were found damaged: by the scrub, or before they were used.
    pub damaged_parts: u64,
    /// Of those, parts that were written anew in place, since the kernel may have been reading them.
    pub repaired_parts: u64,
}

impl Add for ScrubStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            checked_bytes: self.checked_bytes + other.checked_bytes,
            passes: self.passes + other.passes,
            damaged_parts: self.damaged_parts + other.damaged_parts,
            repaired_parts: self.repaired_parts + other.repaired_parts,
        }
    }
}

/// See [`Pool::set_repaired`].
type Repaired = Box<dyn Fn(&str, &Range<u64>) + Send + Sync>;

/// A pool's scrub.
#[derive(Default)]
pub(crate) struct Scrub {
    /// Bytes a second; 0 while nothing is to be checked.
    rate: watch::Sender<u64>,
    is_started: AtomicBool,
    /// Set when the pool has ended: nothing in place changes from then on.
    ended: Mutex<bool>,
    checked_bytes: AtomicU64,
    passes: watch::Sender<u64>,
    damaged_parts: AtomicU64,
    repaired_parts: AtomicU64,
    repaired: OnceLock<Repaired>,
}

impl Scrub {
    /// Ends it. Waits for a repair in place that is under way.
    pub(crate) async fn end(&self) {
        self.rate.send_replace(0);
        *self.ended.lock().await = true;
    }
}

impl Pool {
    /// Checks in the background what the cache has, and reads at most so many bytes a second for it; 0: checks nothing. A pass
    /// begins now, if none is under way.
    pub fn set_scrub_rate(self: &Arc<Self>, bytes_per_second: u64) {
        self.scrub.rate.send_replace(bytes_per_second);
        if bytes_per_second > 0 && !self.scrub.is_started.swap(true, Relaxed) {
            self.runtime.spawn(run(Arc::downgrade(self), self.scrub.rate.subscribe()));
        }
    }

    /// Has `repaired` called with a blob's id and a range of its bytes that were wrong on the disk and are right again: who reads
    /// them natively may have the wrong ones in memory. It may block; a later call of this changes nothing.
    pub fn set_repaired(&self, repaired: impl Fn(&str, &Range<u64>) + Send + Sync + 'static) {
        // A second one would be the first one's twin.
        let _ = self.scrub.repaired.set(Box::new(repaired));
    }

    /// What was checked since the pool was opened.
    pub fn scrub_stats(&self) -> ScrubStats {
        let scrub = &self.scrub;
        ScrubStats {
            checked_bytes: scrub.checked_bytes.load(Relaxed),
            passes: *scrub.passes.borrow(),
            damaged_parts: scrub.damaged_parts.load(Relaxed),
            repaired_parts: scrub.repaired_parts.load(Relaxed),
        }
    }
}

/// The pool was closed.
struct Closed;

/// Works as long as the pool exists, which it keeps from ending at no time but for moments.
async fn run(pool: Weak<Pool>, rate: watch::Receiver<u64>) {
    let eye = match Eye::open() {
        Ok(eye) => eye,
        Err(error) => return tracing::error!(%error, "what is cached is not checked: no thread for it"),
    };
    let mut round = Round { pool, eye, pace: Pace::new(rate), unmended: Unmended::default() };
    // An error means that the pool was closed.
    while round.pass().await.is_ok() && round.rest().await.is_ok() {}
}

/// What goes on from pass to pass.
struct Round {
    pool: Weak<Pool>,
    eye: Eye,
    pace: Pace,
    unmended: Unmended,
}

impl Round {
    fn pool(&self) -> Result<Arc<Pool>, Closed> {
        self.pool.upgrade().ok_or(Closed)
    }

    /// Checks all that is durably there when it comes to it. Begins anywhere, so that passes which are cut short do not leave out
    /// the same parts each time.
    async fn pass(&mut self) -> Result<(), Closed> {
        let mut stores = self.pool()?.stores();
        let first = anywhere(stores.len());
        stores.rotate_left(first);
        for store in stores {
            let parts = || store.parts.iter().map(|(number, _)| number);
            let first = anywhere(parts().count());
            for number in parts().skip(first).chain(parts().take(first)) {
                self.check(&store, number).await?;
            }
        }
        self.pool()?.scrub.passes.send_modify(|passes| *passes += 1);
        Ok(())
    }

    async fn check(&mut self, store: &Arc<Store>, number: u64) -> Result<(), Closed> {
        let state = store.parts.get(number);
        // What is not yet durable was written a moment ago.
        if !state.is_durable() {
            return Ok(());
        }
        let bytes = u64::from(state.blocks()) * BLOCK_BYTES;
        self.pace.wait(bytes).await?;
        let seen = self.eye.look(store.clone(), number).await.ok_or(Closed)?;
        let pool = self.pool()?;
        if seen != Seen::Gone {
            pool.scrub.checked_bytes.fetch_add(bytes, Relaxed);
        }
        if seen == Seen::Damaged {
            self.unmended.mend(&pool, store, number).await;
        }
        self.unmended.try_again(&pool).await;
        Ok(())
    }

    /// Waits until the next pass is due, or somebody sets a rate.
    async fn rest(&mut self) -> Result<(), Closed> {
        let due = Instant::now() + PASS;
        while Instant::now() < due {
            let until = self.unmended.next_try().map_or(due, |next| next.min(due));
            tokio::select! {
                () = sleep_until(until) => {}
                set = self.pace.changed() => return set,
            }
            let pool = self.pool()?;
            self.unmended.try_again(&pool).await;
        }
        Ok(())
    }
}

/// A random number below `count`, or 0.
fn anywhere(count: usize) -> usize {
    (RandomState::new().hash_one(count) % count.max(1) as u64) as usize
}
