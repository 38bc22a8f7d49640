//! Counters of one blob, since it was opened.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use crate::sync::Mutex;

/// Different reasons that are counted apart; what comes later is counted as [`OTHER`].
const MAX_REASONS: usize = 16;
const OTHER: &str = "Other";

/// What a blob's readers and its origin have moved since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobStats {
    /// Parts that a read found present.
    pub hits: u64,
    /// Parts that a read had to wait for.
    pub misses: u64,
    /// Bytes that came from the origin.
    pub source_bytes: u64,
    /// Requests made to the origin.
    pub source_requests: u64,
    /// Bytes given to readers.
    pub served_bytes: u64,
    /// Bytes that were fetched because reads to come were foreseen.
    pub prefetched_bytes: u64,
    /// Bytes of those in parts that were read then.
    pub prefetch_used_bytes: u64,
    /// Bytes in parts that came from the origin and were served without the cache, which had no room or took no writes.
    pub uncached_bytes: u64,
    /// Writes that the cache's filesystem refused: it, or a quota on it, is full, or it is damaged.
    pub failed_writes: u64,
}

impl BlobStats {
    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            hits: of(self.hits, other.hits),
            misses: of(self.misses, other.misses),
            source_bytes: of(self.source_bytes, other.source_bytes),
            source_requests: of(self.source_requests, other.source_requests),
            served_bytes: of(self.served_bytes, other.served_bytes),
            prefetched_bytes: of(self.prefetched_bytes, other.prefetched_bytes),
            prefetch_used_bytes: of(self.prefetch_used_bytes, other.prefetch_used_bytes),
            uncached_bytes: of(self.uncached_bytes, other.uncached_bytes),
            failed_writes: of(self.failed_writes, other.failed_writes),
        }
    }
}

impl Add for BlobStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.each(other, u64::add)
    }
}

impl Sub for BlobStats {
    type Output = Self;

    /// What was counted since `other`, which must be an earlier state of the same counters.
    fn sub(self, other: Self) -> Self {
        self.each(other, u64::sub)
    }
}

/// How often reads failed for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadErrorCount {
    /// The reason, a CamelCase word.
    pub reason: String,
    /// Reads that failed for it.
    pub count: u64,
    /// When the last of them did.
    pub last: SystemTime,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) source_bytes: AtomicU64,
    pub(crate) source_requests: AtomicU64,
    pub(crate) served_bytes: AtomicU64,
    pub(crate) prefetched_bytes: AtomicU64,
    pub(crate) prefetch_used_bytes: AtomicU64,
    pub(crate) uncached_bytes: AtomicU64,
    pub(crate) failed_writes: AtomicU64,
    errors: Mutex<Vec<ReadErrorCount>>,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> BlobStats {
        BlobStats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            source_bytes: self.source_bytes.load(Relaxed),
            source_requests: self.source_requests.load(Relaxed),
            served_bytes: self.served_bytes.load(Relaxed),
            prefetched_bytes: self.prefetched_bytes.load(Relaxed),
            prefetch_used_bytes: self.prefetch_used_bytes.load(Relaxed),
            uncached_bytes: self.uncached_bytes.load(Relaxed),
            failed_writes: self.failed_writes.load(Relaxed),
        }
    }

    pub(crate) fn served(&self, parts: u64, bytes: u64) {
        self.hits.fetch_add(parts, Relaxed);
        self.served_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn failed(&self, reason: &str) {
        let mut errors = self.errors.lock();
        let known = |errors: &[ReadErrorCount], reason: &str| errors.iter().position(|e| e.reason == reason);
        let reason = match known(&errors, reason) {
            None if errors.len() >= MAX_REASONS - 1 => OTHER,
            _ => reason,
        };
        let last = SystemTime::now();
        match known(&errors, reason) {
            Some(at) => {
                errors[at].count += 1;
                errors[at].last = last;
            }
            None => errors.push(ReadErrorCount { reason: reason.to_owned(), count: 1, last }),
        }
    }

    pub(crate) fn errors(&self) -> Vec<ReadErrorCount> {
        self.errors.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let counters = Counters::default();
        for n in 0..100 {
            counters.failed(&format!("Reason{n}"));
            counters.failed("Reason3");
        }
        let errors = counters.errors();
        assert_eq!(errors.len(), MAX_REASONS);
        assert_eq!(errors.iter().map(|e| e.count).sum::<u64>(), 200);
        assert_eq!(errors.iter().find(|e| e.reason == "Reason3").map(|e| e.count), Some(101));
        assert_eq!(errors.iter().find(|e| e.reason == OTHER).map(|e| e.count), Some(85));
    }
}
