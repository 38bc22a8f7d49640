//! Fetches before it is asked for, as the reads of a blob advise.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use granary_image::ExtentTable;

use crate::blob::Blob;
use crate::fill::{RUN_BYTES, fetch};
use crate::gate::Turn;
use crate::prefetch::{Advice, Prefetcher};
use crate::sync::{Mutex, sleep, spawn};
use crate::walk::next_run;

/// How long filling waits for readers to catch up, or for room.
const PAUSE: Duration = Duration::from_millis(20);
/// Advice is split into at least as many requests, so that several connections bring it.
const SPLIT: u64 = 8;
const LEAST_RUN: u64 = 1 << 20;

/// What one blob fetches ahead.
pub(crate) struct Ahead {
    prefetcher: Mutex<Prefetcher>,
    queue: Mutex<Queue>,
    begun: Instant,
    /// Bytes evicted unread of which the prefetcher has heard.
    unused_bytes: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Numbers of parts, with the bytes of one request.
    ranges: VecDeque<(Range<u64>, u64)>,
    /// Whether a task works on them.
    is_worked_on: bool,
    /// Whether a task fills everything.
    is_filling: bool,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            prefetcher: Mutex::default(),
            queue: Mutex::default(),
            begun: Instant::now(),
            unused_bytes: AtomicU64::new(0),
        }
    }
}

impl Ahead {
    /// Whether small reads look random.
    pub(crate) fn looks_random(&self) -> bool {
        self.prefetcher.lock().looks_random()
    }

    /// Bytes that were fetched ahead were read.
    pub(crate) fn useful(&self, bytes: u64) {
        self.prefetcher.lock().useful(bytes);
    }

    /// Learns from a read and starts what it advises.
    pub(crate) fn observe(&self, blob: &Arc<Blob>, table: &ExtentTable, offset: u64, len: usize) {
        let advice = {
            let mut prefetcher = self.prefetcher.lock();
            let unused = blob.store.unused_bytes();
            let more = unused - self.unused_bytes.swap(unused, Relaxed).min(unused);
            if more > 0 {
                prefetcher.useless(more);
            }
            prefetcher.on_read(table, offset, len as u64, self.begun.elapsed())
        };
        match advice {
            Advice::Nothing => {}
            Advice::Ahead(range) => self.fetch_ahead(blob, table, range),
            Advice::Everything => {
                if !std::mem::replace(&mut self.queue.lock().is_filling, true) {
                    blob.pool.runtime.spawn(fill(blob.clone()));
                }
            }
        }
    }

    fn fetch_ahead(&self, blob: &Arc<Blob>, table: &ExtentTable, range: Range<u64>) {
        let most = ((range.end - range.start) / SPLIT).clamp(LEAST_RUN, RUN_BYTES).next_multiple_of(LEAST_RUN);
        let numbers = part_numbers(table, range);
        let mut queue = self.queue.lock();
        queue.ranges.push_back((numbers, most));
        if !std::mem::replace(&mut queue.is_worked_on, true) {
            blob.pool.runtime.spawn(work(blob.clone()));
        }
    }
}

/// The parts that begin in `range` of the blob.
fn part_numbers(table: &ExtentTable, range: Range<u64>) -> Range<u64> {
    let at = |offset| table.part_at(offset).map_or(table.part_count(), |part| part.number);
    at(range.start)..at(range.end)
}

/// Works on the queue until it is empty. Ranges take turns, so that each of several readers gets its share.
async fn work(blob: Arc<Blob>) {
    loop {
        // Chosen with a place at hand and not before: until then it can become a reader's own.
        let place = blob.gate.enter(Turn::Ahead).await;
        let run = loop {
            let mut queue = blob.ahead.queue.lock();
            let Some((mut numbers, most)) = queue.ranges.pop_front() else {
                queue.is_worked_on = false;
                return;
            };
            drop(queue);
            if let Some(run) = next_run(&blob, &mut numbers, most, true) {
                if !numbers.is_empty() {
                    blob.ahead.queue.lock().ranges.push_back((numbers, most));
                }
                break run;
            }
        };
        spawn(fetch(run, place));
    }
}

/// Fills what an epoch will read, as long as it goes on and nothing has to be evicted for it.
async fn fill(blob: Arc<Blob>) {
    let mut numbers = None;
    loop {
        let Some(fill) = blob.ahead.prefetcher.lock().fill(blob.ahead.begun.elapsed()) else { break };
        let stats = blob.stats();
        let gone = stats.prefetch_used_bytes + blob.store.unused_bytes();
        let unread = stats.prefetched_bytes.saturating_sub(gone);
        if unread >= fill.unread || blob.pool.usage().free_bytes < 2 * RUN_BYTES {
            sleep(PAUSE).await;
            continue;
        }
        let place = blob.gate.enter(Turn::Ahead).await;
        let Some(within) = blob.store.table().as_ref().map(|table| part_numbers(table, fill.within)) else { break };
        let left = numbers.get_or_insert_with(|| within.clone());
        left.end = within.end;
        if let Some(run) = next_run(&blob, left, RUN_BYTES, true) {
            spawn(fetch(run, place));
        } else {
            drop(place);
            // From the start again: some were skipped, or the epoch has more files by now.
            numbers = None;
            sleep(PAUSE).await;
        }
    }
    blob.ahead.queue.lock().is_filling = false;
}
