//! Fills parts in the background, whether or not anybody reads them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use granary_image::PartRanges;

use crate::blob::Blob;
use crate::fill::{RUN_BYTES, fetch};
use crate::gate::Turn;
use crate::sync::{AbortHandle, sleep, spawn};
use crate::walk::next_run;

/// Requests at once: enough for most links, and few beside those of readers.
const REQUESTS: usize = 8;
/// Until what could not be fetched, or found no room, is tried again.
const AGAIN: Duration = Duration::from_secs(15);

/// Parts are being filled as long as this lives, below what readers wait for, and only into free room: nothing is evicted
/// for them.
pub struct Preload {
    task: AbortHandle,
}

impl Drop for Preload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Blob {
    /// Fills `parts` in the background, in their order, until all are present.
    pub fn preload(self: &Arc<Self>, parts: Arc<PartRanges>) -> Preload {
        let blob = self.clone();
        let task = self.pool.runtime.spawn(async move {
            while !pass(&blob, &parts).await {
                sleep(AGAIN).await;
            }
        });
        Preload { task: task.abort_handle() }
    }
}

/// Goes through the parts once; whether all are present or on their way.
async fn pass(blob: &Arc<Blob>, parts: &PartRanges) -> bool {
    // Tasks of their own: what a reader has come to wait for goes on when this ends.
    let mut running = FuturesUnordered::new();
    let mut complete = true;
    for mut numbers in parts.iter() {
        loop {
            if running.len() == REQUESTS {
                complete &= matches!(running.next().await, Some(Ok(true)));
            }
            // What the running ones will take is counted as they take it.
            if blob.pool.usage().free_bytes < (running.len() as u64 + 1) * RUN_BYTES {
                return false;
            }
            let place = blob.gate.enter(Turn::Ahead).await;
            let Some(run) = next_run(blob, &mut numbers, RUN_BYTES, false) else { break };
            running.push(spawn(fetch(run, place)));
        }
    }
    while let Some(fetched) = running.next().await {
        complete &= matches!(fetched, Ok(true));
    }
    complete
}
