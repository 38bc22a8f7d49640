//! `s3://` sources against a server on loopback.

mod support;

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use granary_faults::Fault;
use granary_fetch::{Listed, PinBy, SharedCredentials, Source, SourceConfig, SourceError, SourcePolicy};
use granary_image::{Pin, PinKind};
use support::{Server, collect, keys, list, list_error, loopback, open, read_all, with_secret};
use tokio::sync::Notify;

const BYTES: &[u8] = b"0123456789abcdef";

/// A server with one object, and what a listing says about it.
async fn one_object() -> (Server, Arc<Source>, Listed) {
    let server = Server::start().await;
    server.put("p/object", BYTES);
    let source = open(&server.s3("p/"));
    let listed = list(&source).await.unwrap().remove(0);
    (server, source, listed)
}

async fn read_part(source: &Source, object: &Listed) -> Result<Vec<u8>, SourceError> {
    collect(source.read(&object.key, &object.pin, object.size, 4..12).await).await
}

fn with_keys(config: SourceConfig, pairs: &[(&str, &str)]) -> Result<Arc<Source>, SourceError> {
    Source::open(&with_secret(config), Arc::new(SharedCredentials::new(keys(pairs))), loopback())
}

#[tokio::test]
async fn lists_all_pages_with_literal_keys_and_reads_them() {
    let server = Server::start().await;
    let usable = ["a", "a b", " lead", "trail ", "a//b", "é/ü", "a&b<c", "a+b%20c", "q?x#y", "x/y/z", "~t"];
    for key in usable {
        server.put(&format!("p/{key}"), key.to_owned());
    }
    server.put("p/", "");
    server.put("p/folder/", "");
    server.put("p/empty", "");
    server.put("q/other", "");
    let source = open(&server.s3("p/"));
    let listed = list(&source).await.unwrap();
    let mut expected: Vec<_> = usable.into_iter().chain(["folder/", "empty"]).collect();
    expected.sort();
    assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), expected);
    for object in listed.iter().filter(|object| object.size > 0) {
        assert_eq!(object.pin.kind, PinKind::ETag);
        assert_eq!(read_all(&source, object).await.unwrap(), object.key.as_bytes(), "{}", object.key);
    }
    let pages = server.requests().iter().filter(|request| request.query.contains_key("list-type")).count();
    assert_eq!(pages, 5);
}

#[tokio::test]
async fn unusable_keys_are_listed_and_refused_when_read() {
    let server = Server::start().await;
    for key in ["a/../b", "./c", "d/."] {
        server.put(key, "x");
    }
    let source = open(&server.s3(""));
    let listed = list(&source).await.unwrap();
    assert_eq!(listed.len(), 3);
    for object in &listed {
        assert_eq!(read_all(&source, object).await.unwrap_err().reason(), "SourceInvalid");
    }
    assert!(!server.requests().iter().any(|request| request.path.contains('/')));
}

#[tokio::test]
async fn include_and_exclude_choose_keys() {
    let server = Server::start().await;
    for key in ["p/a.flac", "p/x/b.flac", "p/x/c.wav", "p/x/d.flac"] {
        server.put(key, "x");
    }
    let config =
        SourceConfig { include: vec!["**/*.flac".to_owned()], exclude: vec!["x/d*".to_owned()], ..server.s3("p/") };
    let listed = list(&open(&config)).await.unwrap();
    assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a.flac", "x/b.flac"]);
}

#[tokio::test]
async fn a_uri_without_slash_is_one_object() {
    let (server, _, _) = one_object().await;
    let source = open(&server.s3("p/object"));
    let listed = list(&source).await.unwrap();
    assert_eq!((listed.len(), listed[0].key.as_str(), listed[0].size), (1, "", 16));
    assert_eq!(source.object_name(), Some("object"));
    assert_eq!(read_all(&source, &listed[0]).await.unwrap(), BYTES);
    let error = list_error(Ok(open(&server.s3("p")))).await;
    assert_eq!(error.reason(), "ObjectNotFound");
    assert!(error.to_string().contains("s3://bucket/p/"), "{error}");
}

#[tokio::test]
async fn a_page_that_fails_is_asked_for_again() {
    let server = Server::start().await;
    for key in ["p/a", "p/b", "p/c", "p/d"] {
        server.put(key, "x");
    }
    server.fail_listings([500, 503]);
    assert_eq!(list(&open(&server.s3("p/"))).await.unwrap().len(), 4);
    server.fail_listings([403]);
    assert_eq!(list_error(Ok(open(&server.s3("p/")))).await.reason(), "CredentialsRejected");
    server.fail_listings([500; 4]);
    assert_eq!(list_error(Ok(open(&server.s3("p/")))).await.reason(), "SourceUnavailable");
}

#[tokio::test]
async fn a_listing_that_makes_no_sense_ends_with_an_error() {
    let server = Server::start().await;
    for key in ["p/a", "p/b", "p/c", "p/d"] {
        server.put(key, "x");
    }
    server.state().loses_token = true;
    let error = list_error(Ok(open(&server.s3("p/")))).await;
    assert!(error.reason() == "SourceUnavailable" && error.to_string().contains("starts again"), "{error}");
    server.state().page = 10;
    server.put(&format!("p/{}", "x".repeat(70_000)), "x");
    assert_eq!(list_error(Ok(open(&server.s3("p/")))).await.reason(), "TooLarge");
}

#[tokio::test]
async fn an_empty_prefix_is_no_error() {
    let server = Server::start().await;
    assert_eq!(list(&open(&server.s3("nothing/"))).await.unwrap(), []);
}

#[tokio::test]
async fn reads_are_conditional_and_exact() {
    let (server, source, object) = one_object().await;
    assert_eq!(read_part(&source, &object).await.unwrap(), &BYTES[4..12]);
    let request = server.requests().pop().unwrap();
    assert_eq!(request.headers["range"], "bytes=4-11");
    assert_eq!(request.headers["if-match"], object.pin.value);
    assert!(!request.headers.contains_key("authorization"), "an anonymous request is not signed");
    assert_eq!(collect(source.read(&object.key, &object.pin, 16, 3..3).await).await.unwrap(), b"");
    assert_eq!(
        collect(source.read(&object.key, &object.pin, 16, 3..17).await).await.unwrap_err().reason(),
        "SourceInvalid"
    );
}

#[tokio::test]
async fn a_wrong_answer_is_an_error_and_never_bytes() {
    let (server, source, object) = one_object().await;
    for (fault, reason) in [
        (Fault::IgnoreRange, "BadAnswer"),
        (Fault::OtherRange, "BadAnswer"),
        (Fault::OtherETag, "ObjectChanged"),
        (Fault::NoETag, "BadAnswer"),
        (Fault::OtherTotal, "ObjectChanged"),
        (Fault::Truncate(5), "SourceUnavailable"),
        (Fault::Truncate(0), "SourceUnavailable"),
        (Fault::TruncateChunked(5), "SourceUnavailable"),
        (Fault::LengthenChunked, "BadAnswer"),
        (Fault::Lengthen, "BadAnswer"),
        (Fault::Status(500), "SourceUnavailable"),
        (Fault::Status(503), "SourceUnavailable"),
        (Fault::Status(429), "SourceUnavailable"),
        (Fault::Status(403), "CredentialsRejected"),
        (Fault::Status(404), "ObjectNotFound"),
        (Fault::Status(301), "SourceInvalid"),
        (Fault::Close, "SourceUnavailable"),
    ] {
        server.fail([fault.clone()]);
        let error = read_part(&source, &object).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{fault:?}: {error}");
        assert!(!error.to_string().contains("hunter2"), "a server's text is not repeated: {error}");
    }
    assert_eq!(read_part(&source, &object).await.unwrap(), &BYTES[4..12]);
}

#[tokio::test]
async fn a_replaced_or_deleted_object_is_noticed() {
    let (server, source, object) = one_object().await;
    server.put("p/object", &b"another content!"[..]);
    assert_eq!(read_part(&source, &object).await.unwrap_err().reason(), "ObjectChanged");
    server.fail([Fault::IgnoreCondition]);
    assert_eq!(read_part(&source, &object).await.unwrap_err().reason(), "ObjectChanged");
    server.put("p/object", "short");
    assert!(read_part(&source, &object).await.unwrap_err().is_changed());
    server.state().objects.clear();
    let error = read_part(&source, &object).await.unwrap_err();
    assert!(error.is_changed() && error.reason() == "ObjectNotFound", "{error}");
}

#[tokio::test]
async fn a_version_outlives_its_replacement() {
    let server = Server::start().await;
    server.state().versioned = true;
    server.put("p/object", BYTES);
    let mut config = server.s3("p/");
    config.s3.pin_by = PinBy::VersionID;
    let source = open(&config);
    let object = list(&source).await.unwrap().remove(0);
    assert_eq!(object.pin, Pin { kind: PinKind::VersionId, value: "v0".to_owned() });
    server.put("p/object", &b"another content!"[..]);
    assert_eq!(read_part(&source, &object).await.unwrap(), &BYTES[4..12]);
    let listed = list(&source).await.unwrap();
    assert_eq!((listed.len(), listed[0].pin.value.as_str()), (1, "v1"));
    // A server that knows no versions gives what is there now.
    server.state().versioned = false;
    assert_eq!(read_part(&source, &object).await.unwrap_err().reason(), "BadAnswer");
}

#[tokio::test]
async fn the_null_version_is_no_pin() {
    let server = Server::start().await;
    server.put("p/object", BYTES);
    server.state().objects.get_mut("p/object").unwrap()[0].version = "null".to_owned();
    let mut config = server.s3("p/");
    config.s3.pin_by = PinBy::VersionID;
    assert_eq!(list(&open(&config)).await.unwrap()[0].pin.kind, PinKind::ETag);
}

#[tokio::test]
async fn what_is_wrong_with_credentials_has_its_own_reason() {
    let (server, _, _) = one_object().await;
    server.state().key_id = Some("GOODID".to_owned());
    let config = || server.s3("p/");
    for (pairs, reason) in [
        (&[][..], "SecretNotFound"),
        (&[("AWS_ACCESS_KEY", "GOODID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")], "SecretKeysMissing"),
        (&[("AWS_ACCESS_KEY_ID", "GOODID")], "SecretKeysMissing"),
        (&[("AWS_ACCESS_KEY_ID", "WRONGID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")], "CredentialsRejected"),
        (
            &[("ca.crt", "no pem"), ("AWS_ACCESS_KEY_ID", "GOODID"), ("AWS_SECRET_ACCESS_KEY", "hunter2")],
            "SourceInvalid",
        ),
    ] {
        let source = with_keys(config(), pairs);
        let text = format!("{source:?}");
        let error = list_error(source).await;
        assert_eq!(error.reason(), reason, "{error}");
        let text = format!("{text} {error} {error:?}");
        assert!(!text.contains("hunter2") && !text.contains("GOODID"), "{text}");
    }
    let error = list_error(with_keys(config(), &[("AWS_ACCESS_KEY", "x")])).await.to_string();
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "that it has: AWS_ACCESS_KEY"] {
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn the_own_keys_of_a_source_come_first_and_rotate() {
    let (server, _, _) = one_object().await;
    server.state().key_id = Some("OWN".to_owned());
    let both = |own: &str| {
        keys(&[
            ("AWS_ACCESS_KEY_ID", "COMMON"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "common-token"),
            ("labels.AWS_ACCESS_KEY_ID", own),
            ("labels.AWS_SECRET_ACCESS_KEY", "s"),
        ])
    };
    let shared = Arc::new(SharedCredentials::new(both("OWN")));
    let config = SourceConfig { name: Some("labels".to_owned()), ..with_secret(server.s3("p/")) };
    let source = Source::open(&config, shared.clone(), loopback()).unwrap();
    let object = list(&source).await.unwrap().remove(0);
    assert_eq!(read_part(&source, &object).await.unwrap(), &BYTES[4..12]);
    assert!(
        server.requests().iter().rev().take(2).all(|request| !request.headers.contains_key("x-amz-security-token"))
    );
    server.state().key_id = Some("NEXT".to_owned());
    assert_eq!(read_part(&source, &object).await.unwrap_err().reason(), "CredentialsRejected");
    shared.replace(both("NEXT"));
    assert_eq!(read_part(&source, &object).await.unwrap(), &BYTES[4..12]);
}

#[tokio::test]
async fn a_session_token_is_sent() {
    let (server, _, _) = one_object().await;
    let pairs = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
    list(&with_keys(server.s3("p/"), &pairs).unwrap()).await.unwrap();
    assert_eq!(server.requests().pop().unwrap().headers["x-amz-security-token"], "t");
}

#[tokio::test]
async fn a_place_that_is_not_there_has_its_own_reason() {
    let (server, _, _) = one_object().await;
    let missing = SourceConfig { uri: "s3://other/p/".to_owned(), ..server.s3("") };
    assert_eq!(list_error(Ok(open(&missing))).await.reason(), "BucketNotFound");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut closed = server.s3("p/");
    closed.s3.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let error = list_error(Ok(open(&closed))).await;
    assert_eq!(error.reason(), "EndpointUnreachable");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn addresses_of_this_machine_are_refused() {
    let (server, _, _) = one_object().await;
    let port = server.address.port();
    for endpoint in [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
        "http://169.254.169.254".to_owned(),
    ] {
        let mut config = server.s3("p/");
        config.s3.endpoint = Some(endpoint.clone());
        let before = server.requests().len();
        let source = Source::open(&config, Arc::new(granary_fetch::NoCredentials), Arc::new(SourcePolicy::default()));
        let error = list_error(source).await;
        assert_eq!(error.reason(), "SourceDenied", "{endpoint}: {error}");
        assert!(error.to_string().contains("allowedNetworks"), "{error}");
        assert_eq!(server.requests().len(), before);
    }
    let mut config = server.s3("p/");
    config.s3.endpoint = Some(format!("http://localhost:{port}"));
    assert_eq!(list(&open(&config)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_options_cannot_mean_is_said_before_any_request() {
    let server = Server::start().await;
    for endpoint in ["localhost", "https://user:hunter2@host", "http://h/path", "ftp://h", "http://h?x=hunter2"] {
        let mut config = server.s3("p/");
        config.s3.endpoint = Some(endpoint.to_owned());
        let error = Source::open(&config, Arc::new(granary_fetch::NoCredentials), loopback()).unwrap_err();
        assert!(error.reason() == "SourceInvalid" && !error.to_string().contains("hunter2"), "{error}");
    }
    let ambient = SourceConfig { identity: granary_fetch::Identity::Ambient, ..server.s3("p/") };
    let error = Source::open(&ambient, Arc::new(granary_fetch::NoCredentials), loopback()).unwrap_err();
    assert!(error.reason() == "SourceDenied" && error.to_string().contains("ambientIdentity"), "{error}");
}

#[tokio::test]
async fn bytes_are_handed_on_as_they_arrive() {
    let server = Server::start().await;
    let content: Vec<u8> = (0..4 << 20).map(|number: u32| number.to_le_bytes()[1]).collect();
    server.put("p/big", content.clone());
    let source = open(&server.s3("p/"));
    let object = list(&source).await.unwrap().remove(0);
    let notify = Arc::new(Notify::new());
    server.fail([Fault::Hold(notify.clone())]);
    let mut body = source.read("big", &object.pin, object.size, 0..object.size).await.unwrap();
    let mut got = Vec::new();
    // The server holds the second half back until the first one has come out here.
    while got.len() < content.len() / 2 {
        got.extend_from_slice(&body.next().await.unwrap().unwrap());
    }
    notify.notify_one();
    let rest: Vec<_> = body.try_collect().await.unwrap();
    got.extend(rest.concat());
    assert!(got == content);
}
