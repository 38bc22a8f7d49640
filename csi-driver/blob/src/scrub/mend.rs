//! What becomes of a damaged part.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use granary_image::Part;
use tokio::time::Instant;

use crate::blob::Blob;
use crate::body::Body;
use crate::error::ReadError;
use crate::gate::Turn;
use crate::maintain::blocking;
use crate::pool::Pool;
use crate::store::{Look, Seen, Store};

/// Until what could not be repaired is tried again.
const AGAIN: Duration = Duration::from_secs(15);
/// Parts that wait for that; the next pass finds others again.
const MOST: usize = 1024;

/// Why a part could not be repaired.
#[derive(Debug, thiserror::Error)]
enum MendError {
    #[error("nobody has its dataset open, so there is no source to ask")]
    NoSource,
    #[error(transparent)]
    Source(#[from] ReadError),
    #[error("the source's bytes do not match the checksum either")]
    OtherBytes,
    #[error("the cache's file does not take it: {0}")]
    Write(io::Error),
    #[error("the disk does not give back what was written")]
    Lost,
    #[error("the cache is being closed")]
    Ended,
}

/// Damaged parts that are still there, since they can be neither dropped nor repaired now.
#[derive(Default)]
pub(super) struct Unmended {
    parts: VecDeque<(Arc<Store>, u64)>,
    tried: Option<Instant>,
}

impl Unmended {
    /// Drops a part that was found damaged, or repairs it.
    pub(super) async fn mend(&mut self, pool: &Arc<Pool>, store: &Arc<Store>, number: u64) {
        let is_known = self.parts.iter().any(|(of, part)| *part == number && Arc::ptr_eq(of, store));
        if is_known || pool.drop_damaged(store, number).await {
            return;
        }
        pool.found_damaged(store, number, "somebody may be reading it: repairing it in place");
        if !repaired(pool, store, number).await && self.parts.len() < MOST {
            self.parts.push_back((store.clone(), number));
            self.tried = Some(Instant::now());
        }
    }

    /// When [`Self::try_again`] does so next.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.tried.filter(|_| !self.parts.is_empty()).map(|tried| tried + AGAIN)
    }

    /// Tries those again that were left, if it is time.
    pub(super) async fn try_again(&mut self, pool: &Arc<Pool>) {
        if self.next_try().is_none_or(|next| Instant::now() < next) {
            return;
        }
        for (store, number) in std::mem::take(&mut self.parts) {
            if !pool.drop_part(&store, number).await && !repaired(pool, &store, number).await {
                self.parts.push_back((store, number));
            }
        }
        self.tried = Some(Instant::now());
    }
}

impl Pool {
    /// Drops a part that was found damaged, so that it is fetched again when somebody wants it. False if it is absent, or if
    /// somebody holds it.
    pub(crate) async fn drop_damaged(self: &Arc<Self>, store: &Arc<Store>, number: u64) -> bool {
        let dropped = self.drop_part(store, number).await;
        if dropped {
            self.found_damaged(store, number, "it is dropped, and fetched again when somebody wants it");
        }
        dropped
    }

    fn found_damaged(&self, store: &Store, number: u64, outcome: &str) {
        self.scrub.damaged_parts.fetch_add(1, Relaxed);
        let dataset = store.tag().map(|tag| format!("{}/{}", tag.namespace, tag.name)).unwrap_or_default();
        tracing::warn!(blob = store.id, dataset, part = number, outcome, "a cached part is damaged on the disk");
    }
}

/// Repairs a part in place; false if it could not be, which is logged. One that is gone needs nothing.
async fn repaired(pool: &Arc<Pool>, store: &Arc<Store>, number: u64) -> bool {
    match repair(pool, store, number).await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(blob = store.id, part = number, %error, "a damaged part cannot be repaired now: who reads it natively gets wrong bytes");
            false
        }
    }
}

async fn repair(pool: &Arc<Pool>, store: &Arc<Store>, number: u64) -> Result<(), MendError> {
    let blob = pool.open_blob(store).ok_or(MendError::NoSource)?;
    let part = blob.table().part(number);
    let bytes = fetch(&blob, &part).await?;
    if crc32c::crc32c(&bytes) != store.state(&part).crc() {
        return Err(MendError::OtherBytes);
    }
    let ended = pool.scrub.ended.lock().await;
    if *ended {
        return Err(MendError::Ended);
    }
    let (telling, writing) = (pool.clone(), store.clone());
    let work = move || {
        let written = write(&writing, &part, &bytes)?;
        if let (true, Some(repaired)) = (written, telling.scrub.repaired.get()) {
            repaired(&writing.id, &(part.blob_offset..part.blob_offset + u64::from(part.len)));
        }
        Ok::<_, MendError>(written)
    };
    if blocking(work).await.ok_or(MendError::Ended)?? {
        pool.scrub.repaired_parts.fetch_add(1, Relaxed);
        tracing::info!(blob = store.id, part = number, "a damaged part was repaired in place");
    }
    Ok(())
}

/// All bytes of a part, from the origin.
async fn fetch(blob: &Arc<Blob>, part: &Part) -> Result<Vec<u8>, ReadError> {
    let mut place = blob.gate.enter(Turn::Ahead).await;
    let (start, len) = (part.object_offset, part.len as usize);
    let mut body = Body::open(blob, part, start..start + len as u64).await?;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        bytes.extend_from_slice(&body.next(len - bytes.len()).await?);
    }
    body.end().await?;
    place.received(len as u64);
    Ok(bytes)
}

/// Writes a part's bytes over those that are there, durably. False if the part is gone.
fn write(store: &Store, part: &Part, bytes: &[u8]) -> Result<bool, MendError> {
    let state = store.state(part);
    if !state.begin_check() {
        return Ok(false);
    }
    let written = store.data.write_all_at(bytes, part.blob_offset).and_then(|()| store.data.sync_data());
    state.unpin();
    if written.is_err() {
        store.doubt();
    }
    written.map_err(MendError::Write)?;
    match store.look_at(part.number, Look::Disk) {
        Seen::Sound => Ok(true),
        Seen::Gone => Ok(false),
        Seen::Damaged => Err(MendError::Lost),
    }
}
