//! Brings absent parts in, and checks those that an earlier process left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use granary_image::Part;

use crate::blob::Blob;
use crate::error::ReadError;
use crate::flight::{Flight, Hold, Landed};
use crate::origin::{OriginError, OriginErrorKind};
use crate::presence::Presence;
use crate::sink::Sink;

/// Largest request made to an origin, in bytes. Parts are readable one by one as they arrive, so a large request costs no
/// waiting; but one stream is one connection, and several are faster.
const RUN_BYTES: u64 = 8 << 20;

/// Adjacent parts of one object that are filled one after the other by one task. Flights that have not landed when it is
/// dropped fail.
pub(crate) struct Run {
    blob: Arc<Blob>,
    parts: VecDeque<(Part, Arc<Flight>)>,
}

impl Run {
    fn land(&mut self, result: Result<Landed, ReadError>) {
        if let Some((part, flight)) = self.parts.pop_front() {
            self.blob.landed(&part);
            flight.land(result);
        }
    }

    fn fail(&mut self, error: &ReadError) {
        while !self.parts.is_empty() {
            self.land(Err(error.clone()));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.fail(&ReadError::Stopped);
    }
}

/// Starts tasks that land the flights of `parts`, which are in ascending order.
pub(crate) fn start(blob: &Arc<Blob>, parts: Vec<(Part, Arc<Flight>)>) {
    let (stored, absent) =
        parts.into_iter().partition(|(part, _)| blob.store.state(part).presence() == Presence::Unverified);
    for run in runs(blob, stored) {
        tokio::spawn(verify(run));
    }
    for run in runs(blob, absent) {
        tokio::spawn(fetch(run));
    }
}

fn runs(blob: &Arc<Blob>, parts: Vec<(Part, Arc<Flight>)>) -> Vec<Run> {
    let mut runs = Vec::<Run>::new();
    for (part, flight) in parts {
        let last = runs.last_mut().filter(|run| match (run.parts.front(), run.parts.back()) {
            (Some((first, _)), Some((last, _))) => {
                last.extent == part.extent
                    && last.number + 1 == part.number
                    && part.object_offset + u64::from(part.len) - first.object_offset <= RUN_BYTES
            }
            _ => false,
        });
        match last {
            Some(run) => run.parts.push_back((part, flight)),
            None => runs.push(Run { blob: blob.clone(), parts: VecDeque::from([(part, flight)]) }),
        }
    }
    runs
}

/// Checks parts that the map on the disk says are there; what is not sound is dropped and fetched.
async fn verify(mut run: Run) {
    let blob = run.blob.clone();
    let mut absent = Vec::new();
    while let Some((part, _)) = run.parts.front() {
        let part = *part;
        let store = blob.store.clone();
        // What an earlier process left may have to come from the disk.
        let sound = tokio::task::spawn_blocking(move || {
            let sound = store.verify(&part);
            if sound {
                store.state(&part).verified();
            }
            sound
        });
        let sound = sound.await.unwrap_or(false);
        if sound && blob.store.state(&part).pin(blob.pool.tick()) {
            run.land(Ok(Landed::Stored { _hold: Hold::new(blob.store.clone(), &part) }));
            continue;
        }
        if !sound && blob.pool.drop_part(&blob.store, &part).await {
            tracing::warn!(blob = blob.store.id, part = part.number, "a cached part is damaged: fetching it again");
        }
        absent.extend(run.parts.pop_front());
    }
    for run in runs(&blob, absent) {
        tokio::spawn(fetch(run));
    }
}

async fn fetch(mut run: Run) {
    if let Err(error) = try_fetch(&mut run).await {
        run.fail(&error);
    }
}

async fn try_fetch(run: &mut Run) -> Result<(), ReadError> {
    let blob = run.blob.clone();
    let (Some((first, _)), Some((last, _))) = (run.parts.front(), run.parts.back()) else { return Ok(()) };
    let range = first.object_offset..last.object_offset + u64::from(last.len);
    let object = blob.object(first);
    let failed = |e: OriginError| ReadError::Origin {
        kind: e.kind,
        reason: e.reason,
        key: object.key.clone(),
        message: e.message,
    };
    let _permit = blob.pool.fetches.acquire().await.map_err(|_| ReadError::Stopped)?;
    blob.counters.source_requests.fetch_add(1, Relaxed);
    let stream = blob.origin().read(&object, range).await.map_err(&failed)?;
    let mut body = Body { stream, rest: Bytes::new(), blob: &blob };
    while let Some((part, _)) = run.parts.front() {
        let mut sink = Sink::open(&blob.pool, &blob.store, *part).await;
        let mut missing = part.len as usize;
        while missing > 0 {
            let chunk = body.next(missing).await.map_err(&failed)?;
            sink.write(&chunk).await?;
            missing -= chunk.len();
        }
        if run.parts.len() == 1 {
            body.end().await.map_err(&failed)?;
        }
        run.land(Ok(sink.finish()));
    }
    Ok(())
}

/// An origin's answer, cut where parts end.
struct Body<'a> {
    stream: BoxStream<'static, Result<Bytes, OriginError>>,
    rest: Bytes,
    blob: &'a Blob,
}

impl Body<'_> {
    async fn more(&mut self) -> Result<bool, OriginError> {
        while self.rest.is_empty() {
            match self.stream.next().await {
                Some(bytes) => self.rest = bytes?,
                None => return Ok(false),
            }
            self.blob.counters.source_bytes.fetch_add(self.rest.len() as u64, Relaxed);
        }
        Ok(true)
    }

    /// The next bytes, at least one and at most `most`.
    async fn next(&mut self, most: usize) -> Result<Bytes, OriginError> {
        if self.more().await? {
            Ok(self.rest.split_to(most.min(self.rest.len())))
        } else {
            Err(wrong_length("shorter"))
        }
    }

    /// Nothing may follow: a body of another length is not what was asked for.
    async fn end(&mut self) -> Result<(), OriginError> {
        if self.more().await? { Err(wrong_length("longer")) } else { Ok(()) }
    }
}

fn wrong_length(how: &str) -> OriginError {
    OriginError {
        kind: OriginErrorKind::Unavailable,
        reason: "WrongLength".to_owned(),
        message: format!("the source's answer was {how} than what was asked for"),
    }
}
