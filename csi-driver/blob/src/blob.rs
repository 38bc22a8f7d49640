//! One blob, read by offset.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use granary_image::{ExtentTable, Object, Part};

use crate::ahead::Ahead;
use crate::body::Body;
use crate::error::{PoolError, ReadError};
use crate::fill;
use crate::flight::{Flight, Flights, Landed};
use crate::gate::{Gate, Turn};
use crate::origin::Origin;
use crate::pieces::{Piece, pieces};
use crate::pool::Pool;
use crate::presence::Presence;
use crate::scraps::Scraps;
use crate::share::Member;
use crate::stats::{BlobStats, Counters, ReadErrorCount};
use crate::store::Store;
use crate::sync::RwLock;

/// One blob of a pool. See [`Pool::blob`].
pub struct Blob {
    pub(crate) pool: Arc<Pool>,
    pub(crate) store: Arc<Store>,
    origin: RwLock<Arc<dyn Origin>>,
    flights: Flights,
    pub(crate) gate: Arc<Gate>,
    /// The dataset's share of requests, and of buffers for what finds no room.
    pub(crate) requests: Member,
    pub(crate) buffers: Member,
    pub(crate) ahead: Ahead,
    scraps: Scraps,
    pub(crate) counters: Counters,
}

impl Blob {
    /// `store` must have a table.
    pub(crate) fn new(pool: Arc<Pool>, store: Arc<Store>, origin: Arc<dyn Origin>) -> Self {
        let dataset = store.tag().map_or_else(|| store.id.clone(), |tag| tag.dataset_uid);
        let (requests, buffers) = pool.shares.members(&dataset);
        Self {
            pool,
            store,
            origin: RwLock::new(origin),
            flights: Flights::default(),
            gate: Arc::default(),
            requests,
            buffers,
            ahead: Ahead::default(),
            scraps: Scraps::default(),
            counters: Counters::default(),
        }
    }

    /// Length in bytes, by the longest extent table so far; a multiple of the block size.
    pub fn len(&self) -> u64 {
        self.with_table(ExtentTable::blob_bytes)
    }

    /// Whether the blob has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The longest extent table so far.
    pub fn table(&self) -> ExtentTable {
        self.with_table(ExtentTable::clone)
    }

    /// Takes a longer extent table of the same blob. One that the present table continues is no error and changes nothing.
    pub fn extend(&self, table: ExtentTable) -> Result<(), PoolError> {
        self.take_table(table).map(|_| ())
    }

    /// As [`Self::extend`]; if the table is longer, what it adds is read from `origin`, and so is the rest from now on.
    pub(crate) fn extend_with(&self, table: ExtentTable, origin: Arc<dyn Origin>) -> Result<(), PoolError> {
        let mut current = self.origin.write();
        if self.take_table(table)? {
            *current = origin;
        }
        Ok(())
    }

    fn take_table(&self, table: ExtentTable) -> Result<bool, PoolError> {
        self.pool.set_table(&self.store, table)
    }

    /// Fills `buf` with the bytes from `offset` and returns true if all their parts are present and were checked since the
    /// blob was opened; otherwise returns false, and `buf` is undefined. Never waits for the origin.
    ///
    /// Every read of the kernel comes here first: from them is learned what to fetch ahead.
    pub fn read_cached(self: &Arc<Self>, offset: u64, buf: &mut [u8]) -> Result<bool, ReadError> {
        let table = self.store.table();
        let table = table.as_ref().expect("an open blob has a table");
        check_range(table, offset, buf.len()).inspect_err(|e| self.counters.failed(e.reason()))?;
        self.ahead.observe(self, table, offset, buf.len());
        let now = self.pool.tick();
        let len = buf.len();
        let mut held = 0;
        let mut complete = pieces(table, offset, len).filter(|piece| piece.data > 0).all(|piece| {
            let pinned = self.store.state(&piece.part).pin(now);
            held += usize::from(pinned);
            pinned
        });
        // One call for all: the parts lie side by side in the file as they do in the blob.
        let failed = complete && self.store.data.read_exact_at(buf, offset).is_err();
        complete &= !failed;
        let mut at = 0;
        let mut to_release = held;
        let mut durable = true;
        for piece in pieces(table, offset, len) {
            buf[at + piece.data..at + piece.len()].fill(0);
            at += piece.len();
            if piece.data == 0 {
                continue;
            }
            if to_release == 0 {
                break;
            }
            to_release -= 1;
            let state = self.store.state(&piece.part);
            if failed {
                state.doubted();
            }
            if complete {
                self.used(&piece.part);
            }
            durable &= state.is_durable();
            state.unpin();
        }
        if complete {
            self.counters.served(held as u64, len as u64);
            if durable {
                self.store.drop_pages(offset, len as u64);
            }
        }
        Ok(complete)
    }

    /// A reader has bytes of the part.
    fn used(&self, part: &Part) {
        if self.store.state(part).used() {
            self.counters.prefetch_used_bytes.fetch_add(u64::from(part.len), Relaxed);
            self.ahead.useful(u64::from(part.len));
        }
    }

    /// Fills `buf` with the bytes from `offset`, in full or with an error. Waits for the parts that are absent, which are
    /// fetched once however many readers wait for them, and go on being fetched when this future is dropped.
    pub async fn read(self: &Arc<Self>, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let served = buf.len() as u64;
        self.read_pieces(offset, buf).await.inspect_err(|e| self.counters.failed(e.reason()))?;
        self.counters.served_bytes.fetch_add(served, Relaxed);
        Ok(())
    }

    async fn read_pieces(self: &Arc<Self>, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let table = self.table();
        check_range(&table, offset, buf.len())?;
        let mut waits = FuturesUnordered::new();
        let mut to_start = Vec::new();
        let is_random = self.ahead.looks_random();
        let mut rest = buf;
        for piece in pieces(&table, offset, rest.len()) {
            let (own, after) = rest.split_at_mut(piece.len());
            rest = after;
            let (data, zeros) = own.split_at_mut(piece.data);
            zeros.fill(0);
            if data.is_empty() || self.try_read(&piece, data) {
                continue;
            }
            if is_random && self.is_scrap(&piece) {
                waits.push(Either::Left(self.read_scrap(piece, data)));
                continue;
            }
            let (flight, is_new) = self.board(&piece.part);
            if is_new {
                to_start.push((piece.part, flight.clone()));
            }
            waits.push(Either::Right(self.copy(piece, flight, data)));
        }
        self.counters.misses.fetch_add(waits.len() as u64, Relaxed);
        fill::start(self, to_start);
        // In any order: what has landed in a buffer is let go at once, so that buffers never wait for each other.
        while let Some(copied) = waits.next().await {
            copied?;
        }
        Ok(())
    }

    /// Reads a part that is present.
    fn try_read(&self, piece: &Piece, data: &mut [u8]) -> bool {
        let state = self.store.state(&piece.part);
        if !state.pin(self.pool.tick()) {
            return false;
        }
        let read = self.store.data.read_exact_at(data, piece.offset);
        if read.is_err() {
            state.doubted();
        } else {
            self.used(&piece.part);
        }
        state.unpin();
        self.counters.hits.fetch_add(u64::from(read.is_ok()), Relaxed);
        read.is_ok()
    }

    /// The part's flight, and whether it is new and must be started.
    pub(crate) fn board(&self, part: &Part) -> (Arc<Flight>, bool) {
        self.flights.board(&self.store, part, self.pool.tick())
    }

    /// The part's flight has ended.
    pub(crate) fn landed(&self, part: &Part) {
        self.flights.landed(part);
    }

    /// Whether only the bytes that are asked for should be fetched: a small share of a part that nobody fetches, in which
    /// nobody has read for long.
    fn is_scrap(&self, piece: &Piece) -> bool {
        piece.data < piece.part.len as usize / 2
            && self.store.state(&piece.part).presence() == Presence::Absent
            && !self.flights.has(&piece.part)
            && self.scraps.is_first(piece.part.number)
    }

    /// Reads past the cache.
    async fn read_scrap(self: &Arc<Self>, piece: Piece, data: &mut [u8]) -> Result<(), ReadError> {
        let mut place = self.gate.enter(Turn::Demand).await;
        let start = piece.part.object_offset + (piece.offset - piece.part.blob_offset);
        let mut body = Body::open(self, &piece.part, start..start + data.len() as u64).await?;
        let mut at = 0;
        while at < data.len() {
            let chunk = body.next(data.len() - at).await?;
            data[at..at + chunk.len()].copy_from_slice(&chunk);
            at += chunk.len();
        }
        body.end().await?;
        place.received(data.len() as u64);
        Ok(())
    }

    async fn copy(&self, piece: Piece, flight: Arc<Flight>, data: &mut [u8]) -> Result<(), ReadError> {
        let landed = flight.wait().await?;
        self.used(&piece.part);
        match landed {
            Landed::Buffered(buffer) => {
                let start = (piece.offset - piece.part.blob_offset) as usize;
                data.copy_from_slice(&buffer.bytes[start..start + data.len()]);
                Ok(())
            }
            Landed::Stored { .. } => self.store.data.read_exact_at(data, piece.offset).map_err(|e| {
                self.store.state(&piece.part).doubted();
                ReadError::Cache { action: "read", blob: self.store.id.clone(), message: e.to_string() }
            }),
        }
    }

    pub(crate) fn origin(&self) -> Arc<dyn Origin> {
        self.origin.read().clone()
    }

    /// The object that a part is of.
    pub(crate) fn object(&self, part: &Part) -> Object {
        self.with_table(|table| table.extent(part.extent).to_object())
    }

    fn with_table<T>(&self, get: impl FnOnce(&ExtentTable) -> T) -> T {
        get(self.store.table().as_ref().expect("an open blob has a table"))
    }

    /// Bytes of the blob in the cache, in whole blocks.
    pub fn cached_bytes(&self) -> u64 {
        self.store.cached_bytes()
    }

    /// Reads that failed since the blob was opened, by reason.
    pub fn read_errors(&self) -> Vec<ReadErrorCount> {
        self.counters.errors()
    }

    /// What was moved since the blob was opened.
    pub fn stats(&self) -> BlobStats {
        self.counters.snapshot()
    }
}

fn check_range(table: &ExtentTable, offset: u64, len: usize) -> Result<(), ReadError> {
    let blob_bytes = table.blob_bytes();
    match offset.checked_add(len as u64) {
        Some(end) if end <= blob_bytes => Ok(()),
        _ => Err(ReadError::OutOfRange { offset, len: len as u64, blob_bytes }),
    }
}
