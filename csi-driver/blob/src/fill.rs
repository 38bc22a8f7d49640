//! Brings absent parts in, and checks those that an earlier process left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use granary_image::Part;

use crate::blob::Blob;
use crate::body::Body;
use crate::error::ReadError;
use crate::flight::{Flight, Hold, Landed};
use crate::gate::{Place, Turn};
use crate::presence::Presence;
use crate::sink::Sink;
use crate::store::{Look, Seen};
use crate::sync::{sleep, spawn, spawn_blocking};

/// Largest request made to an origin, in bytes. Parts are readable one by one as they arrive, so a large request costs no
/// waiting; but one stream is one connection, and several are faster.
pub(crate) const RUN_BYTES: u64 = 8 << 20;

/// How long a request that failed, and that nobody waited for, keeps its place.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often it is tried to drop wrong bytes that are in use, in that time.
const TAKE_BACK_TRIES: u32 = 50;
/// The reason by which wrong bytes that may have been read are counted.
const WRONG_BYTES: &str = "WrongBytes";

/// Adjacent parts of one object that are filled one after the other by one task. Flights that have not landed when it is
/// dropped fail.
pub(crate) struct Run {
    blob: Arc<Blob>,
    parts: VecDeque<(Part, Arc<Flight>)>,
    /// Nobody has asked for them.
    ahead: bool,
}

impl Run {
    /// A run without parts.
    pub(crate) fn new(blob: &Arc<Blob>, ahead: bool) -> Self {
        Self { blob: blob.clone(), parts: VecDeque::new(), ahead }
    }

    /// Whether a part follows the ones before, in one object, and together they have at most `most` bytes.
    pub(crate) fn fits(&self, part: &Part, most: u64) -> bool {
        match (self.parts.front(), self.parts.back()) {
            (Some((first, _)), Some((last, _))) => {
                last.extent == part.extent
                    && last.number + 1 == part.number
                    && part.object_offset + u64::from(part.len) - first.object_offset <= most
            }
            _ => true,
        }
    }

    /// Takes a part that fits, with its flight.
    pub(crate) fn push(&mut self, part: Part, flight: Arc<Flight>) {
        self.parts.push_back((part, flight));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

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

/// Starts tasks that land the flights of `parts`, which are in ascending order and which readers wait for.
pub(crate) fn start(blob: &Arc<Blob>, parts: Vec<(Part, Arc<Flight>)>) {
    let (stored, absent) =
        parts.into_iter().partition(|(part, _)| blob.store.state(part).presence() == Presence::Unverified);
    for run in runs(blob, stored) {
        spawn(verify(run));
    }
    for run in runs(blob, absent) {
        spawn(fetch_now(run));
    }
}

fn runs(blob: &Arc<Blob>, parts: Vec<(Part, Arc<Flight>)>) -> Vec<Run> {
    let mut runs = Vec::<Run>::new();
    for (part, flight) in parts {
        match runs.last_mut().filter(|run| run.fits(&part, RUN_BYTES)) {
            Some(run) => run.push(part, flight),
            None => {
                let mut run = Run::new(blob, false);
                run.push(part, flight);
                runs.push(run);
            }
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
        let look = move || store.look_at(part.number, Look::Cached);
        let seen = spawn_blocking(look).await.unwrap_or(Seen::Gone);
        if seen == Seen::Sound && blob.store.state(&part).pin(blob.pool.tick()) {
            run.land(Ok(Landed::Stored { _hold: Hold::new(blob.store.clone(), &part) }));
            continue;
        }
        if seen == Seen::Damaged {
            blob.pool.drop_damaged(&blob.store, part.number).await;
        }
        absent.extend(run.parts.pop_front());
    }
    for run in runs(&blob, absent) {
        spawn(fetch_now(run));
    }
}

async fn fetch_now(run: Run) {
    let mut place = run.blob.gate.enter(Turn::Demand).await;
    // Those who wait are told.
    let _ = fetch_run(run, &mut place).await;
}

/// Fetches a run that nobody waits for by one request; false if it failed. Its place stays taken for a while then: a source that
/// is down fails at once, and all that is to be fetched would be tried as fast.
pub(crate) async fn fetch(run: Run, mut place: Place) -> bool {
    let result = fetch_run(run, &mut place).await;
    if matches!(&result, Err(error) if !error.is_changed()) {
        sleep(AFTER_FAILURE).await;
    }
    result.is_ok()
}

/// Fetches a run by one request, or by two if the first answer was wrong. Those who wait for it are told if that failed.
async fn fetch_run(mut run: Run, place: &mut Place) -> Result<(), ReadError> {
    let mut result = try_fetch(&mut run, place).await;
    if matches!(&result, Err(error) if error.is_wrong()) {
        result = try_fetch(&mut run, place).await;
    }
    if let Err(error) = &result {
        run.fail(error);
    }
    result
}

async fn try_fetch(run: &mut Run, place: &mut Place) -> Result<(), ReadError> {
    let blob = run.blob.clone();
    let mut landed = Vec::new();
    let result = fetch_parts(&blob, run, place, &mut landed).await;
    if matches!(&result, Err(error) if error.is_wrong()) {
        for number in landed {
            take_back(&blob, number).await;
        }
    }
    result
}

/// Drops a part of an answer that turned out to be wrong when its readers could have it already.
async fn take_back(blob: &Arc<Blob>, number: u64) {
    // Readers hold it for a moment.
    for _ in 0..TAKE_BACK_TRIES {
        let state = blob.store.parts.get(number);
        if blob.pool.drop_part(&blob.store, number).await || state.presence() == Presence::Absent {
            blob.counters.failed(WRONG_BYTES);
            tracing::error!(
                blob = blob.store.id,
                part = number,
                "bytes that may have been read were wrong: they are dropped"
            );
            return;
        }
        sleep(AFTER_FAILURE / TAKE_BACK_TRIES).await;
    }
    tracing::error!(blob = blob.store.id, part = number, "a part has wrong bytes, and cannot be dropped: it is in use");
}

async fn fetch_parts(
    blob: &Arc<Blob>,
    run: &mut Run,
    place: &mut Place,
    landed_parts: &mut Vec<u64>,
) -> Result<(), ReadError> {
    let (Some((first, _)), Some((last, _))) = (run.parts.front(), run.parts.back()) else { return Ok(()) };
    let range = first.object_offset..last.object_offset + u64::from(last.len);
    let bytes = range.end - range.start;
    let mut body = Body::open(blob, first, range).await?;
    while let Some((part, _)) = run.parts.front() {
        let mut missing = part.len as usize;
        // Before there is something to put into it, a sink would only keep room from others.
        let mut chunk = body.next(missing).await?;
        let mut sink = Sink::open(blob, *part).await;
        loop {
            sink.write(&chunk).await?;
            missing -= chunk.len();
            if missing == 0 {
                break;
            }
            chunk = body.next(missing).await?;
        }
        if run.parts.len() == 1 {
            body.end().await?;
        }
        if run.ahead {
            blob.counters.prefetched_bytes.fetch_add(u64::from(part.len), Relaxed);
        }
        let landed = sink.finish(run.ahead);
        if matches!(landed, Landed::Buffered(_)) {
            blob.counters.uncached_bytes.fetch_add(u64::from(part.len), Relaxed);
        }
        landed_parts.push(part.number);
        run.land(Ok(landed));
    }
    place.received(bytes);
    Ok(())
}
