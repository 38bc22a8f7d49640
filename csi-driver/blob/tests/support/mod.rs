//! An origin whose bytes are a function of key and offset, and pools in temporary directories.
#![allow(dead_code)] // Each test binary uses its own share.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use granary_blob::{Blob, BlobTag, Origin, OriginError, OriginErrorKind, Pool, PoolConfig, PoolError};
use granary_image::{ExtentTable, Object, Pin, PinKind, SourceId, TableBuilder};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub const MIB: u64 = 1 << 20;

/// How an object's answers go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Changed,
    Unavailable,
    /// One byte less than asked for.
    Short,
    /// One byte more.
    Long,
    /// An error in the middle.
    Breaks,
    /// Never a byte.
    Hangs,
    /// The task that asks panics.
    Panics,
}

/// Bytes `range` of the object `key`.
pub fn content(key: &str, range: Range<u64>) -> Vec<u8> {
    let seed = u64::from(crc32c::crc32c(key.as_bytes())) << 32;
    let word = |at: u64| {
        let mixed = (seed ^ at).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17);
        mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (range.start / 8..range.end.div_ceil(8)).flat_map(word).collect();
    bytes.drain(..(range.start % 8) as usize);
    bytes.truncate((range.end - range.start) as usize);
    bytes
}

#[derive(Default)]
pub struct TestOrigin {
    pub requests: Mutex<Vec<(String, Range<u64>)>>,
    pub faults: Mutex<HashMap<String, Fault>>,
    /// Requests wait for one permit each, if set.
    pub gate: Mutex<Option<Arc<Semaphore>>>,
    /// Told at each request.
    pub asked: Notify,
    pub chunk: AtomicUsize,
}

impl TestOrigin {
    pub fn new() -> Arc<Self> {
        let origin = Self::default();
        origin.chunk.store(100_003, SeqCst);
        Arc::new(origin)
    }

    pub fn count(&self) -> usize {
        self.requests.lock().len()
    }

    pub fn fault(&self, key: &str, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.faults.lock().insert(key.to_owned(), fault),
            None => self.faults.lock().remove(key),
        };
    }

    pub fn close_gate(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock() = Some(gate.clone());
        gate
    }
}

fn error(kind: OriginErrorKind, reason: &str) -> OriginError {
    OriginError { kind, reason: reason.to_owned(), message: format!("{reason}: as the test wants it") }
}

#[async_trait]
impl Origin for TestOrigin {
    async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, OriginError>>, OriginError> {
        assert!(range.start < range.end && range.end <= object.size, "{range:?} of {object:?}");
        self.requests.lock().push((object.key.clone(), range.clone()));
        self.asked.notify_one();
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            gate.acquire().await.expect("the gate is never closed for good").forget();
        }
        let fault = self.faults.lock().get(&object.key).copied();
        let mut bytes = content(&object.key, range);
        match fault {
            Some(Fault::Changed) => return Err(error(OriginErrorKind::Changed, "ObjectChanged")),
            Some(Fault::Unavailable) => return Err(error(OriginErrorKind::Unavailable, "Unreachable")),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Panics) => panic!("as the test wants it"),
            Some(Fault::Short) => bytes.truncate(bytes.len() - 1),
            Some(Fault::Long) => bytes.push(0),
            Some(Fault::Breaks) => bytes.truncate(bytes.len() / 2),
            None => {}
        }
        let chunk = self.chunk.load(SeqCst);
        let bytes = Bytes::from(bytes);
        let mut chunks: Vec<_> =
            (0..bytes.len()).step_by(chunk).map(|at| Ok(bytes.slice(at..bytes.len().min(at + chunk)))).collect();
        if fault == Some(Fault::Breaks) {
            chunks.push(Err(error(OriginErrorKind::Unavailable, "Broken")));
        }
        Ok(stream::iter(chunks).boxed())
    }
}

pub fn object(key: &str, size: u64) -> Object {
    let pin = Pin { kind: PinKind::ETag, value: format!("\"{key}\"") };
    Object { source: SourceId::of("test://", None), key: key.to_owned(), pin, size }
}

pub fn built(builder: TableBuilder) -> ExtentTable {
    let mut bytes = Vec::new();
    builder.finish(&mut bytes).expect("table");
    ExtentTable::from_bytes(bytes).expect("table")
}

/// A table of objects in this order.
pub fn table(id: &str, objects: &[(&str, u64)]) -> ExtentTable {
    let mut builder = TableBuilder::new(id.to_owned());
    for (key, size) in objects {
        builder.allocate(&object(key, *size)).expect("allocate");
    }
    built(builder)
}

/// What the blob of `table` holds at `offset`.
pub fn expected(table: &ExtentTable, offset: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    let end = offset + len as u64;
    let mut at = offset;
    while at < end {
        let extent = table.at(at).expect("inside the blob");
        let stop = end.min((extent.offset + extent.size).next_multiple_of(4096));
        let data = stop.min(extent.offset + extent.size).max(at);
        out.extend(content(extent.key, at - extent.offset..data - extent.offset));
        out.resize(out.len() + (stop - data) as usize, 0);
        at = stop;
    }
    out
}

/// The state that a killed process leaves: what is in its directory now, in another one.
pub fn copy_state(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("create");
    for entry in std::fs::read_dir(from).expect("list") {
        let entry = entry.expect("list");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy_state(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}

pub fn tag() -> BlobTag {
    BlobTag { dataset_uid: "uid".to_owned(), namespace: "vision".to_owned(), name: "set".to_owned() }
}

pub fn config(dir: &Path, max_bytes: Option<u64>) -> PoolConfig {
    PoolConfig { dir: dir.join("cache"), max_bytes, min_free_percent: 0, min_free_bytes: 0 }
}

/// Opens a pool; one that is going down on the same directory is waited for.
pub async fn open(config: PoolConfig) -> Arc<Pool> {
    loop {
        match Pool::open(config.clone()) {
            Err(PoolError::InUse(_)) => tokio::task::yield_now().await,
            pool => return pool.expect("open"),
        }
    }
}

/// Reads and compares.
pub async fn check(blob: &Arc<Blob>, offset: u64, len: usize) {
    let mut buf = vec![0xAA; len];
    blob.read(offset, &mut buf).await.expect("read");
    assert!(buf == expected(&blob.table(), offset, len), "bytes at {offset}+{len}");
}

/// Reads from the cache and compares; false if a part is absent.
pub fn check_cached(blob: &Arc<Blob>, offset: u64, len: usize) -> bool {
    let mut buf = vec![0xAA; len];
    let complete = blob.read_cached(offset, &mut buf).expect("read");
    assert!(!complete || buf == expected(&blob.table(), offset, len), "bytes at {offset}+{len}");
    complete
}

/// Bytes that the blob's data file takes on the disk.
pub fn allocated(config: &PoolConfig, id: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(config.dir.join("blobs").join(id).join("data")).expect("data file").blocks() * 512
}
