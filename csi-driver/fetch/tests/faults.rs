//! Each kind of misbehaviour of a source, what a read makes of it, and how many requests that takes. The table is that of
//! `docs/reliability.md`.

mod support;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use granary_faults::Fault;
use granary_fetch::{Listed, RetryPolicy, Source, SourceError, read_retrying};
use sha2::{Digest as _, Sha256};
use support::{Server, collect, list, open, read_all};
use tokio::sync::Notify;

const BYTES: &[u8] = b"0123456789abcdef";

/// Short waits: which answer comes, not when, decides these tests.
const POLICY: RetryPolicy = RetryPolicy {
    stall: Duration::from_millis(200),
    first_backoff: Duration::from_millis(1),
    max_backoff: Duration::from_millis(5),
    ..RetryPolicy::DEFAULT
};

async fn one_object() -> (Server, Arc<Source>, Listed) {
    let server = Server::start().await;
    server.put("p/object", BYTES);
    let source = open(&server.s3("p/"));
    let listed = list(&source).await.unwrap().remove(0);
    (server, source, listed)
}

/// Reads a part of the object, and how many requests that took.
async fn read_part(
    server: &Server,
    source: &Arc<Source>,
    object: &Listed,
    policy: RetryPolicy,
) -> (Result<Vec<u8>, SourceError>, usize) {
    let before = server.proxy.reads();
    let (key, pin) = (object.key.clone(), object.pin.clone());
    let read = collect(Ok(read_retrying(source.clone(), key, pin, object.size, 4..12, policy))).await;
    (read, server.proxy.reads() - before)
}

/// What passes is outlived: the second try brings the rest.
#[tokio::test]
async fn what_happens_once_is_not_noticed() {
    let (server, source, object) = one_object().await;
    let held = Arc::new(Notify::new());
    held.notify_one();
    for (fault, requests) in [
        (Fault::None, 1),
        (Fault::Delay(Duration::from_millis(20)), 1),
        (Fault::Hold(held), 1),
        (Fault::Drip(Duration::from_millis(1)), 1),
        (Fault::Stall, 2),
        (Fault::StallAfter(0), 2),
        (Fault::StallAfter(3), 2),
        (Fault::Close, 2),
        (Fault::Reset, 2),
        (Fault::ResetAfter(3), 2),
        (Fault::Truncate(0), 2),
        (Fault::Truncate(3), 2),
        (Fault::TruncateChunked(3), 2),
        (Fault::Lengthen, 2),
        (Fault::IgnoreRange, 2),
        (Fault::IgnoreCondition, 1),
        (Fault::OtherRange, 2),
        (Fault::NoETag, 2),
        (Fault::Garbage, 2),
        (Fault::Status(403), 2),
        (Fault::Status(408), 2),
        (Fault::Status(429), 2),
        (Fault::Status(500), 2),
        (Fault::Status(502), 2),
        (Fault::Status(503), 2),
        (Fault::Status(504), 2),
    ] {
        server.fail([fault.clone()]);
        let (read, asked) = read_part(&server, &source, &object, POLICY).await;
        assert_eq!((read.as_deref(), asked), (Ok(&BYTES[4..12]), requests), "{fault:?}");
    }
}

/// What says that the object or the place is another is final at once.
#[tokio::test]
async fn what_is_meant_is_final() {
    let (server, source, object) = one_object().await;
    let elsewhere = format!("http://{}/bucket/p/object", server.address);
    for (fault, reason) in [
        (Fault::Status(404), "ObjectNotFound"),
        (Fault::Status(410), "ObjectNotFound"),
        (Fault::Status(412), "ObjectChanged"),
        (Fault::Status(416), "ObjectChanged"),
        (Fault::OtherETag, "ObjectChanged"),
        (Fault::OtherTotal, "ObjectChanged"),
        (Fault::OtherVersion, "ObjectChanged"),
        (Fault::Status(400), "SourceInvalid"),
        (Fault::Redirect(301, elsewhere.clone()), "SourceInvalid"),
        (Fault::Redirect(307, elsewhere), "SourceInvalid"),
        // Bytes were given out before the answer turned out to be longer.
        (Fault::LengthenChunked, "BadAnswer"),
    ] {
        server.fail([fault.clone()]);
        let (read, asked) = read_part(&server, &source, &object, POLICY).await;
        assert_eq!((read.map_err(|error| error.reason()), asked), (Err(reason), 1), "{fault:?}");
    }
}

/// What stays wrong ends with its own reason, after a bounded number of requests.
#[tokio::test]
async fn what_stays_wrong_is_given_up() {
    let (server, source, object) = one_object().await;
    let policy = RetryPolicy { deadline: Duration::from_millis(500), ..POLICY };
    for (fault, reason, requests) in [
        (Fault::Status(403), "CredentialsRejected", 4..=4),
        (Fault::IgnoreRange, "BadAnswer", 4..=4),
        (Fault::NoETag, "BadAnswer", 4..=4),
        (Fault::Stall, "SourceTimeout", 2..=3),
        (Fault::Drip(Duration::from_millis(150)), "SourceTimeout", 2..=5),
        (Fault::Status(503), "SourceUnavailable", 10..=1000),
        (Fault::Reset, "SourceUnavailable", 10..=1000),
    ] {
        server.proxy.fail_always(fault.clone());
        let (read, asked) = read_part(&server, &source, &object, policy).await;
        assert_eq!(read.map_err(|error| error.reason()), Err(reason), "{fault:?}");
        assert!(requests.contains(&asked), "{fault:?}: {asked}");
    }
    // No connection of those who gave up stays behind.
    server.proxy.fail_always(Fault::None);
    drop(source);
    server.proxy.wait_for_open(0).await;
}

/// A source that is down for long is left alone: its readers are told at once, without a request, and another source goes on.
#[tokio::test]
async fn a_source_that_is_down_is_left_alone_until_it_answers() {
    let (server, source, object) = one_object().await;
    let (sound, other, same) = one_object().await;
    let policy = RetryPolicy {
        deadline: Duration::from_millis(300),
        outage: Duration::from_millis(300),
        first_pause: Duration::from_secs(3600),
        ..POLICY
    };
    server.proxy.fail_always(Fault::Status(503));
    until_down(&server, &source, &object, policy).await;
    for _ in 0..100 {
        let (read, asked) = read_part(&server, &source, &object, policy).await;
        let text = read.unwrap_err().to_string();
        assert_eq!(asked, 0, "{text}");
        assert!(
            text.contains("s3://bucket/p/") && text.contains("HTTP 503") && text.contains("tried again at"),
            "{text}"
        );
        let (read, _) = read_part(&sound, &other, &same, policy).await;
        assert_eq!(read.as_deref(), Ok(&BYTES[4..12]));
    }
    // A source that is opened anew knows nothing of it.
    let source = open(&server.s3("p/"));
    server.proxy.fail_always(Fault::None);
    assert_eq!(read_part(&server, &source, &object, policy).await.0.as_deref(), Ok(&BYTES[4..12]));
    let policy = RetryPolicy { first_pause: Duration::from_millis(100), ..policy };
    server.proxy.fail_always(Fault::Close);
    until_down(&server, &source, &object, policy).await;
    server.proxy.fail_always(Fault::None);
    let before = server.proxy.reads();
    while let Err(error) = read_part(&server, &source, &object, policy).await.0 {
        assert_eq!(error.reason(), "SourceDown");
        tokio::task::yield_now().await;
    }
    assert_eq!(server.proxy.reads() - before, 1, "one request found out, and it was a read");
}

/// Reads until the source is left alone.
async fn until_down(server: &Server, source: &Arc<Source>, object: &Listed, policy: RetryPolicy) {
    for _ in 0..10 {
        if read_part(server, source, object, policy).await.0.unwrap_err().reason() == "SourceDown" {
            return;
        }
    }
    panic!("the source is still asked");
}

#[tokio::test]
async fn a_whole_object_has_the_checksum_that_its_source_states() {
    let server = Server::start().await;
    let sha256 = STANDARD.encode(Sha256::digest(BYTES));
    let crc =
        |algorithm, length: usize| STANDARD.encode(&crc_fast::checksum(algorithm, BYTES).to_be_bytes()[8 - length..]);
    for (key, header, value) in [
        ("p/crc32", "x-amz-checksum-crc32", crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc, 4)),
        ("p/crc32c", "x-amz-checksum-crc32c", crc(crc_fast::CrcAlgorithm::Crc32Iscsi, 4)),
        ("p/crc64nvme", "x-amz-checksum-crc64nvme", crc(crc_fast::CrcAlgorithm::Crc64Nvme, 8)),
        ("p/sha256", "x-amz-checksum-sha256", sha256),
    ] {
        server.put(key, BYTES);
        server.store.state_checksum(key, header, &value);
    }
    let source = open(&server.s3("p/"));
    for object in list(&source).await.unwrap() {
        assert_eq!(read_all(&source, &object).await.as_deref(), Ok(BYTES), "{}", object.key);
        server.fail([Fault::Corrupt(7)]);
        let error = read_all(&source, &object).await.unwrap_err();
        assert_eq!(error.reason(), "ChecksumMismatch", "{}", object.key);
        // Nobody has seen a byte of it: it is read again.
        let before = server.proxy.reads();
        server.fail([Fault::Corrupt(7)]);
        let (key, pin) = (object.key.clone(), object.pin.clone());
        let read = collect(Ok(read_retrying(source.clone(), key, pin, object.size, 0..object.size, POLICY))).await;
        assert_eq!((read.as_deref(), server.proxy.reads() - before), (Ok(BYTES), 2));
        // Of a part, none is stated.
        server.fail([Fault::Corrupt(0)]);
        let part = collect(source.read(&object.key, &object.pin, object.size, 4..12).await).await.unwrap();
        assert_eq!(part[1..], BYTES[5..12]);
    }
}
