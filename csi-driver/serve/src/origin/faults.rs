//! What the readers of a blob see of a source that misbehaves: the whole way but for the kernel.

use std::net::SocketAddr;
use std::sync::Once;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use granary_blob::{Blob, BlobTag, Pool, PoolConfig};
use granary_faults::{BUCKET, Fault, Proxy, Store};
use granary_fetch::S3Options;
use granary_image::{ExtentTable, Pin, PinKind, TableBuilder};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;

const SMALL: usize = 5000;
const BIG: usize = (3 << 20) + 77;
/// What a read waits for at most, whatever the source does.
const BOUND: Duration = Duration::from_secs(60);

/// Short waits: which answer comes, not when, decides these tests.
const POLICY: RetryPolicy = RetryPolicy {
    stall: Duration::from_millis(300),
    first_backoff: Duration::from_millis(1),
    max_backoff: Duration::from_millis(5),
    ..RetryPolicy::DEFAULT
};

/// A store with two objects, behind a proxy.
struct Lab {
    dir: TempDir,
    store: Store,
    proxy: Proxy,
    pool: Arc<Pool>,
}

/// A blob of the two objects, with their places in it.
struct Dataset {
    blob: Arc<Blob>,
    small: u64,
    big: u64,
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

impl Lab {
    async fn new() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let config =
            PoolConfig { dir: dir.path().join("cache"), max_bytes: None, min_free_percent: 0, min_free_bytes: 0 };
        let pool = Pool::open(config).unwrap();
        let store = Store::start().await.unwrap();
        let proxy = Proxy::start(store.address()).await.unwrap();
        Self { dir, store, proxy, pool }
    }

    /// The objects of this dataset, with their checksums, behind the proxy.
    fn dataset(&self, name: &str, retries: RetryPolicy) -> Dataset {
        self.dataset_at(self.proxy.address(), name, retries)
    }

    fn dataset_at(&self, address: SocketAddr, name: &str, retries: RetryPolicy) -> Dataset {
        let config = SourceConfig {
            uri: format!("s3://{BUCKET}/{name}/"),
            s3: S3Options { endpoint: Some(format!("http://{address}")), ..S3Options::default() },
            ..SourceConfig::default()
        };
        let mut table = TableBuilder::new(name.to_owned());
        let mut place = |key: &str, len: usize| {
            let path = format!("{name}/{key}");
            self.store.put(&path, bytes(len));
            let digest = STANDARD.encode(Sha256::digest(bytes(len)));
            self.store.state_checksum(&path, "x-amz-checksum-sha256", &digest);
            let etag = self.store.state().objects[&path][0].etag.clone().unwrap();
            let pin = Pin { kind: PinKind::ETag, value: etag };
            table.allocate(&Object { source: config.id(), key: key.into(), pin, size: len as u64 }).unwrap()
        };
        let (big, small) = (place("big", BIG), place("small", SMALL));
        let mut extents = Vec::new();
        table.finish(&mut extents).unwrap();
        let origin = BlobOrigin { retries, ..BlobOrigin::default() };
        origin.open_sources(&[config], &SourcePolicy::unrestricted()).unwrap();
        let tag = BlobTag { dataset_uid: name.into(), namespace: "lab".into(), name: name.into() };
        let blob = self.pool.blob(tag, ExtentTable::from_bytes(extents).unwrap(), Arc::new(origin)).unwrap();
        Dataset { blob, small, big }
    }
}

impl Dataset {
    /// Reads an object, or gives the reason why not.
    async fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, String> {
        let mut buf = vec![0; len];
        if self.blob.read_cached(at, &mut buf).unwrap() {
            return Ok(buf);
        }
        let read = tokio::time::timeout(BOUND, self.blob.read(at, &mut buf)).await;
        read.expect("a read is bounded").map(|()| buf).map_err(|error| error.reason().to_owned())
    }

    async fn small(&self) -> Result<Vec<u8>, String> {
        self.read(self.small, SMALL).await
    }

    async fn big(&self) -> Result<Vec<u8>, String> {
        self.read(self.big, BIG).await
    }
}

#[tokio::test]
async fn right_bytes_or_an_error_and_nothing_wrong_stays() {
    let lab = Lab::new().await;
    for (number, (fault, outcome, requests)) in [
        (Fault::Stall, Ok(()), 2),
        (Fault::ResetAfter(1000), Ok(()), 2),
        (Fault::Truncate(1000), Ok(()), 2),
        (Fault::TruncateChunked(1000), Ok(()), 2),
        (Fault::LengthenChunked, Ok(()), 2),
        (Fault::Corrupt(4000), Ok(()), 2),
        (Fault::NoETag, Ok(()), 2),
        (Fault::Status(403), Ok(()), 2),
        (Fault::Status(429), Ok(()), 2),
        (Fault::Status(500), Ok(()), 2),
        (Fault::Status(503), Ok(()), 2),
        (Fault::Status(404), Err("ObjectNotFound"), 1),
        (Fault::Status(412), Err("ObjectChanged"), 1),
        (Fault::Status(416), Err("ObjectChanged"), 1),
        (Fault::OtherVersion, Err("ObjectChanged"), 1),
        // Of a whole object, its length is announced.
        (Fault::Lengthen, Err("ObjectChanged"), 1),
        (Fault::Redirect(307, "http://127.0.0.1/".to_owned()), Err("SourceInvalid"), 1),
    ]
    .into_iter()
    .enumerate()
    {
        let dataset = lab.dataset(&format!("d{number}"), POLICY);
        let before = lab.proxy.reads();
        lab.proxy.fail([fault.clone()]);
        let read = dataset.small().await;
        assert_eq!(lab.proxy.reads() - before, requests, "{fault:?}");
        match outcome {
            Ok(()) => assert!(read == Ok(bytes(SMALL)), "{fault:?}"),
            Err(reason) => {
                assert_eq!(read, Err(reason.to_owned()), "{fault:?}");
                let errors = dataset.blob.read_errors();
                assert_eq!((errors.len(), errors[0].reason.as_str()), (1, reason), "{fault:?}");
            }
        }
        // It was for a moment, and nothing of it is in the cache; the other object is not concerned at all.
        assert!(dataset.small().await == Ok(bytes(SMALL)), "{fault:?}");
        assert!(dataset.big().await == Ok(bytes(BIG)), "{fault:?}");
    }
    drop(lab.dir);
}

/// Parts of an object are read as they arrive, and the checksum of all comes after the last.
#[tokio::test]
async fn parts_of_an_answer_that_turns_out_wrong_are_dropped() {
    let lab = Lab::new().await;
    let dataset = lab.dataset("d", POLICY);
    lab.proxy.fail([Fault::Corrupt(10)]);
    // The last part is asked for once more.
    let read = dataset.big().await.unwrap();
    assert!(read[1 << 20..] == bytes(BIG)[1 << 20..]);
    assert!(dataset.blob.read_errors().iter().any(|error| error.reason == "WrongBytes"), "it is told");
    assert!(dataset.big().await == Ok(bytes(BIG)));
}

#[tokio::test]
async fn a_source_that_stalls_or_is_down_leaves_other_datasets_alone() {
    let lab = Lab::new().await;
    let policy = RetryPolicy { deadline: Duration::from_millis(500), outage: Duration::from_millis(500), ..POLICY };
    let sound = lab.dataset_at(lab.store.address(), "sound", POLICY);
    let stuck: Vec<_> = (0..30).map(|n| Arc::new(lab.dataset(&format!("d{n}"), RetryPolicy::DEFAULT))).collect();
    lab.proxy.fail_always(Fault::Stall);
    let readers: Vec<_> = stuck
        .iter()
        .flat_map(|dataset| {
            let (small, big) = (dataset.clone(), dataset.clone());
            [tokio::spawn(async move { small.small().await }), tokio::spawn(async move { big.big().await })]
        })
        .collect();
    lab.proxy.wait_for_reads(60).await;
    assert!(sound.big().await == Ok(bytes(BIG)));
    assert!(readers.iter().all(|reader| !reader.is_finished()), "they wait, and nobody else does");
    readers.iter().for_each(|reader| reader.abort());

    let down = lab.dataset("down", policy);
    let begun = Instant::now();
    while down.small().await != Err("SourceDown".to_owned()) {
        assert!(begun.elapsed() < BOUND);
    }
    let before = lab.proxy.reads();
    for _ in 0..100 {
        assert_eq!(down.small().await, Err("SourceDown".to_owned()));
    }
    assert_eq!(lab.proxy.reads(), before, "without a request");
    assert!(sound.small().await == Ok(bytes(SMALL)));
}
