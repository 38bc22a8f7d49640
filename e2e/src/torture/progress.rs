//! How many operations have begun: faults happen at counts, not at times, so that a seed is nearly the same run again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The operations of all readers together.
pub(super) struct Progress {
    most: u64,
    begun: AtomicU64,
    ended: AtomicU64,
    stopped: AtomicBool,
    /// The count that somebody waits for.
    wanted: AtomicU64,
    mutex: Mutex<()>,
    reached: Condvar,
}

impl Progress {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            wanted: AtomicU64::new(u64::MAX),
            mutex: Mutex::new(()),
            reached: Condvar::new(),
        }
    }

    /// Begins an operation; false if there are to be no more.
    pub(super) fn begin(&self) -> bool {
        !self.stopped.load(SeqCst) && self.begun.fetch_add(1, SeqCst) < self.most
    }

    /// Ends one.
    pub(super) fn end(&self) {
        let ended = self.ended.fetch_add(1, SeqCst) + 1;
        if ended >= self.wanted.load(SeqCst) {
            self.wake();
        }
    }

    /// No more operations.
    pub(super) fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.wake();
    }

    fn wake(&self) {
        let _held = self.mutex.lock();
        self.reached.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    pub(super) fn ended(&self) -> u64 {
        self.ended.load(SeqCst)
    }

    /// Waits until so many operations have ended, all have, or it was stopped; but no longer than `patience` without any
    /// that ends. Gives whether one of the first three is so.
    pub(super) fn wait(&self, count: u64, patience: Duration) -> bool {
        let count = count.min(self.most);
        self.wanted.store(count, SeqCst);
        let (mut last, mut since) = (self.ended(), Instant::now());
        let mut held = self.mutex.lock();
        loop {
            let ended = self.ended();
            if ended >= count || self.is_stopped() {
                return true;
            }
            if ended > last {
                (last, since) = (ended, Instant::now());
            }
            let Some(left) = patience.checked_sub(since.elapsed()) else { return false };
            self.reached.wait_for(&mut held, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_count_goes_on_when_it_is_reached_or_when_nothing_happens() {
        let progress = Progress::new(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while progress.begin() {
                    progress.end();
                }
            });
            assert!(progress.wait(2, Duration::from_secs(60)) && progress.wait(100, Duration::from_secs(60)));
        });
        assert_eq!(progress.ended(), 3);
        let stuck = Progress::new(3);
        assert!(!stuck.wait(1, Duration::from_millis(1)));
        stuck.stop();
        assert!(stuck.wait(1, Duration::from_millis(1)) && !stuck.begin());
    }
}
