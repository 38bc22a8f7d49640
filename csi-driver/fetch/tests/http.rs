//! `http(s)://` sources against a server on loopback.

mod support;

use std::sync::Arc;

use granary_faults::Fault;
use granary_fetch::{HttpFile, HttpOptions, Listed, NoCredentials, SharedCredentials, Source, SourceConfig};
use granary_image::PinKind;
use support::{Server, collect, keys, list, list_error, loopback, open, read_all, with_secret};

const BYTES: &[u8] = b"0123456789abcdef";

fn indexed(server: &Server, files: &[&str]) -> SourceConfig {
    let files = files.iter().map(|&path| HttpFile { path: path.to_owned(), digest: None }).collect();
    SourceConfig { http: Some(HttpOptions { files }), ..server.http("bucket/dir/") }
}

async fn one_file() -> (Server, Arc<Source>, Listed) {
    let server = Server::start().await;
    server.put("dir/file", BYTES);
    let source = open(&server.http("bucket/dir/file"));
    let listed = list(&source).await.unwrap().remove(0);
    (server, source, listed)
}

#[tokio::test]
async fn a_file_is_listed_and_read() {
    let (server, source, file) = one_file().await;
    assert_eq!((file.key.as_str(), file.size, file.pin.kind), ("", 16, PinKind::ETag));
    assert_eq!(source.object_name(), Some("file"));
    let body = collect(source.read("", &file.pin, 16, 4..12).await).await.unwrap();
    assert_eq!(body, &BYTES[4..12]);
    let request = server.requests().pop().unwrap();
    assert_eq!(
        (request.headers["range"].as_str(), request.headers["if-match"].as_str()),
        ("bytes=4-11", file.pin.value.as_str())
    );
    assert_eq!(request.headers["accept-encoding"], "identity");
}

#[tokio::test]
async fn a_directory_is_its_index_in_order() {
    let server = Server::start().await;
    let files = ["z", "a b/ü", "50%25", "m"];
    for file in files {
        server.put(&format!("dir/{file}"), file.to_owned());
    }
    let source = open(&indexed(&server, &files));
    let listed = list(&source).await.unwrap();
    assert_eq!(listed.iter().map(|file| file.key.as_str()).collect::<Vec<_>>(), files);
    for file in &listed {
        assert_eq!(read_all(&source, file).await.unwrap(), file.key.as_bytes());
    }
    let error = list_error(Ok(open(&indexed(&server, &["z", "missing"])))).await;
    assert!(error.reason() == "ObjectNotFound" && error.to_string().contains("'missing'"), "{error}");
}

#[tokio::test]
async fn a_directory_needs_an_index_of_relative_paths() {
    let server = Server::start().await;
    let open = |config: &SourceConfig| Source::open(config, Arc::new(NoCredentials), loopback());
    let error = open(&server.http("bucket/dir/")).unwrap_err();
    assert!(error.reason() == "SourceInvalid" && error.to_string().contains("http.files"), "{error}");
    for path in ["../secret", "/x", "a//b", "a/./b", ""] {
        assert_eq!(open(&indexed(&server, &[path])).unwrap_err().reason(), "SourceInvalid", "{path}");
    }
}

#[tokio::test]
async fn files_without_a_strong_tag_are_pinned_as_well_as_can_be() {
    let server = Server::start().await;
    server.put("dir/file", BYTES);
    let source = open(&server.http("bucket/dir/file"));
    let change = |etag: Option<&str>, time: Option<&str>| {
        let mut state = server.state();
        let stored = &mut state.objects.get_mut("dir/file").unwrap()[0];
        stored.etag = etag.map(str::to_owned);
        stored.last_modified = time.map(str::to_owned);
    };
    change(Some("W/\"weak\""), Some("Wed, 01 May 2024 10:00:00 GMT"));
    let timed = list(&source).await.unwrap().remove(0);
    assert_eq!((timed.pin.kind, timed.pin.value.as_str()), (PinKind::ModificationTime, "2024-05-01T10:00:00Z"));
    assert_eq!(read_all(&source, &timed).await.unwrap(), BYTES);
    change(None, Some("Wed, 01 May 2024 09:00:00 GMT"));
    assert_eq!(read_all(&source, &timed).await.unwrap_err().reason(), "ObjectChanged");
    change(None, None);
    assert_eq!(read_all(&source, &timed).await.unwrap_err().reason(), "BadAnswer");
    let sized = list(&source).await.unwrap().remove(0);
    assert_eq!(sized.pin.kind, PinKind::SizeOnly);
    assert_eq!(read_all(&source, &sized).await.unwrap(), BYTES);
    server.put("dir/file", "another length");
    assert_eq!(read_all(&source, &sized).await.unwrap_err().reason(), "ObjectChanged");
}

#[tokio::test]
async fn a_wrong_answer_is_an_error_and_never_bytes() {
    let (server, source, file) = one_file().await;
    for (fault, reason) in [
        (Fault::IgnoreRange, "BadAnswer"),
        (Fault::OtherRange, "BadAnswer"),
        (Fault::OtherETag, "ObjectChanged"),
        (Fault::LengthenChunked, "BadAnswer"),
        (Fault::Truncate(3), "SourceUnavailable"),
        (Fault::Status(500), "SourceUnavailable"),
        (Fault::Status(401), "CredentialsRejected"),
        (Fault::Status(404), "ObjectNotFound"),
    ] {
        server.fail([fault.clone()]);
        let error = collect(source.read("", &file.pin, 16, 4..12).await).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{fault:?}: {error}");
    }
    // The whole file may come without a range: it is what was asked for.
    server.fail([Fault::IgnoreRange]);
    assert_eq!(read_all(&source, &file).await.unwrap(), BYTES);
}

#[tokio::test]
async fn passwords_and_tokens_are_sent_and_not_told() {
    let (server, _, _) = one_file().await;
    let listed = async |pairs: &[(&str, &str)], wanted: &str| {
        server.state().key_id = Some(wanted.to_owned());
        let config = with_secret(server.http("bucket/dir/file"));
        let source = Source::open(&config, Arc::new(SharedCredentials::new(keys(pairs))), loopback()).unwrap();
        list(&source).await.map_err(|error| {
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            error.reason()
        })
    };
    let basic = "Basic dXNlcjpodW50ZXIy";
    assert!(listed(&[("username", "user"), ("password", "hunter2")], basic).await.is_ok());
    assert!(listed(&[("token", "hunter2")], "Bearer hunter2").await.is_ok());
    assert_eq!(listed(&[("token", "hunter22")], "Bearer hunter2").await, Err("CredentialsRejected"));
    assert_eq!(listed(&[("username", "user")], basic).await, Err("SecretKeysMissing"));
    assert_eq!(listed(&[("AWS_ACCESS_KEY_ID", "hunter2")], basic).await, Err("SecretKeysMissing"));
    assert_eq!(listed(&[("token", "hunter2\n")], basic).await, Err("SourceInvalid"));
    assert_eq!(listed(&[], basic).await, Err("SecretNotFound"));
}

#[tokio::test]
async fn redirects_are_followed_only_to_where_requests_may_go() {
    let (server, source, _) = one_file().await;
    let redirect = |to: &str| server.state().redirects.insert("bucket/dir/file".to_owned(), (302, to.to_owned()));
    server.put("moved", BYTES);
    redirect(&format!("http://{}/bucket/moved", server.address));
    let file = list(&source).await.unwrap().remove(0);
    assert_eq!(read_all(&source, &file).await.unwrap(), BYTES);
    for target in
        ["http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/x", "http://0.0.0.0/x", "http://[::1]:1/x"]
    {
        redirect(target);
        let error = list_error(Ok(source.clone())).await;
        assert_eq!(error.reason(), "SourceDenied", "{target}: {error}");
    }
    redirect(&format!("http://{}/bucket/dir/file", server.address));
    let error = list_error(Ok(source.clone())).await;
    assert!(error.reason() == "SourceDenied" && error.to_string().contains("redirects"), "{error}");
}

#[tokio::test]
async fn a_password_does_not_follow_a_redirect_to_another_server() {
    let (server, _, _) = one_file().await;
    let other = Server::start().await;
    other.put("file", BYTES);
    server
        .state()
        .redirects
        .insert("bucket/dir/file".to_owned(), (302, format!("http://{}/bucket/file", other.address)));
    let credentials = Arc::new(SharedCredentials::new(keys(&[("token", "hunter2")])));
    let source = Source::open(&with_secret(server.http("bucket/dir/file")), credentials, loopback()).unwrap();
    let file = list(&source).await.unwrap().remove(0);
    assert_eq!(read_all(&source, &file).await.unwrap(), BYTES);
    let requests = other.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn an_own_authority_is_trusted_by_the_secret_only() {
    let (server, pem) = Server::start_tls().await;
    server.put("dir/file", BYTES);
    let config = SourceConfig {
        uri: format!("https://localhost:{}/bucket/dir/file", server.address.port()),
        ..Default::default()
    };
    let error = list_error(Ok(open(&config))).await;
    assert!(error.reason() == "EndpointUnreachable" && error.to_string().contains("ca.crt"), "{error}");
    let credentials = Arc::new(SharedCredentials::new(keys(&[("ca.crt", &pem)])));
    let source = Source::open(&with_secret(config), credentials, loopback()).unwrap();
    let file = list(&source).await.unwrap().remove(0);
    assert_eq!(read_all(&source, &file).await.unwrap(), BYTES);
    let plain = format!("http://{}/bucket/dir/file", server.address);
    server.state().redirects.insert("bucket/dir/file".to_owned(), (302, plain));
    assert_eq!(list(&source).await.unwrap_err().reason(), "SourceDenied", "no redirect leaves encryption");
}
