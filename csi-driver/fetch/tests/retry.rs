//! Reads of a source that fails for a while.

mod support;

use std::{sync::Arc, time::Duration};

use granary_faults::Fault;
use granary_fetch::{Listed, RetryPolicy, Source, SourceError, read_retrying};
use support::{Server, collect, list, open};
use tokio::sync::Notify;

const BYTES: &[u8] = b"0123456789abcdef";

/// Short waits: which answer comes, not when, decides these tests.
const POLICY: RetryPolicy = RetryPolicy {
    deadline: Duration::from_secs(60),
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

async fn read(source: &Arc<Source>, object: &Listed, policy: RetryPolicy) -> Result<Vec<u8>, SourceError> {
    let body =
        read_retrying(source.clone(), object.key.clone(), object.pin.clone(), object.size, 0..object.size, policy);
    collect(Ok(body)).await
}

#[tokio::test]
async fn what_passes_is_outlived_and_bytes_are_asked_for_once() {
    let (server, source, object) = one_object().await;
    let before = server.requests().len();
    server.fail([
        Fault::Status(500),
        Fault::Close,
        Fault::Truncate(6),
        Fault::Status(403),
        Fault::Stall,
        Fault::Hold(Arc::new(Notify::new())),
        Fault::IgnoreRange,
        Fault::OtherRange,
        Fault::TruncateChunked(2),
    ]);
    assert_eq!(read(&source, &object, POLICY).await.unwrap(), BYTES);
    let requests = server.requests();
    let ranges: Vec<_> = requests[before..].iter().map(|request| request.headers.get("range").cloned()).collect();
    let expected = [0, 0, 0, 6, 6, 6, 11, 11, 11, 13].map(|start| (start > 0).then(|| format!("bytes={start}-15")));
    assert_eq!(ranges, expected);
}

#[tokio::test]
async fn what_does_not_pass_ends_at_the_deadline() {
    let (server, source, object) = one_object().await;
    let policy = RetryPolicy { deadline: Duration::from_millis(300), ..POLICY };
    for (fault, reason) in
        [(Fault::Status(500), "SourceUnavailable"), (Fault::Stall, "SourceTimeout"), (Fault::IgnoreRange, "BadAnswer")]
    {
        server.proxy.fail_always(fault);
        // Not from the start: the whole object may come without a range.
        let body = read_retrying(source.clone(), object.key.clone(), object.pin.clone(), object.size, 1..16, policy);
        assert_eq!(collect(Ok(body)).await.unwrap_err().reason(), reason);
    }
}

#[tokio::test]
async fn a_replaced_object_is_never_mixed_into_the_first() {
    let (server, source, object) = one_object().await;
    let notify = Arc::new(Notify::new());
    server.fail([Fault::Truncate(6), Fault::Hold(notify.clone())]);
    let reading = tokio::spawn({
        let (source, object) = (source.clone(), object.clone());
        async move { read(&source, &object, POLICY).await }
    });
    // Replaced after the first answer broke off; the second one ends without its rest.
    while server.proxy.left() > 0 {
        tokio::task::yield_now().await;
    }
    server.put("p/object", &b"another content!"[..]);
    let error = reading.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), "ObjectChanged");
}

#[tokio::test]
async fn what_is_final_is_not_tried_again() {
    let (server, source, object) = one_object().await;
    server.put("p/object", &b"another content!"[..]);
    let before = server.requests().len();
    assert_eq!(read(&source, &object, POLICY).await.unwrap_err().reason(), "ObjectChanged");
    server.state().objects.clear();
    assert_eq!(read(&source, &object, POLICY).await.unwrap_err().reason(), "ObjectNotFound");
    assert_eq!(server.requests().len() - before, 2);
}

#[tokio::test]
async fn answers_that_ask_for_patience_are_counted() {
    let (server, source, object) = one_object().await;
    assert_eq!(source.slowdowns(), 0);
    let count = async |fault| {
        let before = source.slowdowns();
        server.fail([fault]);
        assert_eq!(read(&source, &object, POLICY).await.unwrap(), BYTES);
        source.slowdowns() - before
    };
    for (fault, expected) in [
        (Fault::None, 0),
        (Fault::Status(500), 0),
        (Fault::Status(403), 0),
        (Fault::Close, 0),
        (Fault::Status(429), 1),
        (Fault::Status(503), 1),
        (Fault::Stall, 1),
    ] {
        assert_eq!(count(fault.clone()).await, expected, "{fault:?}");
    }
    server.fail_listings([503, 500]);
    list(&source).await.unwrap();
    assert_eq!(source.slowdowns(), 4, "listings count, too");
}
