//! The image store over HTTPS on loopback, with tokens that a test knows.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use async_trait::async_trait;
use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use granary_crds::data_storage_class::SourcePolicy;
use granary_crds::exchange::coding::compress;
use granary_crds::exchange::{
    ArtifactRef, AssignedCredentials, Assignment, IndexFailure, IndexResult, MEDIA_TYPE_EXTENTS, Parent, Problem,
    RESULT_PATH, artifact_path,
};
use granary_operator::metrics::Metrics;
use granary_operator::store::server::{Service, router};
use granary_operator::store::{Caller, Desk, Directory, JobRef, Refusal, tls};
use parking_lot::Mutex;
use reqwest::{Certificate, Client, StatusCode};
use sha2::{Digest, Sha256};

/// Knows the tokens `node` and `job`, and keeps what a Job reports.
struct FakeDesk {
    parent: String,
    results: Mutex<Vec<IndexResult>>,
}

#[async_trait]
impl Desk for FakeDesk {
    async fn caller(&self, token: &str) -> Result<Caller, Refusal> {
        match token {
            "node" => Ok(Caller::Node),
            "job" => Ok(Caller::Job(JobRef { namespace: "a".into(), name: "j".into(), uid: "u".into() })),
            "stranger" => Err(Refusal::Forbidden("not yours".to_owned())),
            _ => Err(Refusal::Unauthenticated),
        }
    }

    async fn assignment(&self, job: &JobRef) -> Result<Assignment, Refusal> {
        let extents =
            ArtifactRef { digest: self.parent.clone(), size_bytes: 1, media_type: MEDIA_TYPE_EXTENTS.to_owned() };
        Ok(Assignment {
            dataset_namespace: job.namespace.clone(),
            dataset_name: "d".to_owned(),
            dataset_uid: "d".to_owned(),
            sources: Vec::new(),
            credentials: AssignedCredentials::None,
            source_policy: SourcePolicy::default(),
            parent: Some(Parent { blob_id: "b".to_owned(), extents }),
            new_blob_id: job.uid.clone(),
        })
    }

    async fn result(&self, _: &JobRef, result: IndexResult) -> Result<(), Refusal> {
        self.results.lock().push(result);
        Ok(())
    }
}

struct Store {
    url: String,
    client: Client,
    desk: Arc<FakeDesk>,
    handle: axum_server::Handle<SocketAddr>,
    _dir: tempfile::TempDir,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

fn digest(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

async fn store() -> Store {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let tls = tls::prepare(dir.path(), &["localhost".to_owned()]).unwrap();
    let desk = Arc::new(FakeDesk { parent: digest("parent"), results: Mutex::default() });
    let service = Service {
        desk: Arc::clone(&desk) as Arc<dyn Desk>,
        store: Arc::new(Directory::open(dir.path(), 1000).await.unwrap()),
        metrics: Arc::new(Metrics::default()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = axum_server::Handle::new();
    let server = from_tcp_rustls(listener, RustlsConfig::from_config(tls.config)).unwrap().handle(handle.clone());
    tokio::spawn(server.serve(router(service).into_make_service()));
    let authority = Certificate::from_pem(tls.ca_pem.as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([authority]).build().unwrap();
    Store { url: format!("https://localhost:{port}"), client, desk, handle, _dir: dir }
}

impl Store {
    async fn put(&self, token: &str, digest: &str, body: &'static str) -> StatusCode {
        let url = format!("{}{}", self.url, artifact_path(digest));
        self.client.put(url).bearer_auth(token).body(body).send().await.unwrap().status()
    }

    async fn get(&self, token: &str, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.url)).bearer_auth(token).send().await.unwrap()
    }
}

#[tokio::test]
async fn a_job_puts_and_a_node_gets() {
    let store = store().await;
    let hello = digest("hello");
    assert_eq!(store.put("job", &hello, "hello").await, StatusCode::CREATED);
    assert_eq!(store.put("job", &hello, "hello").await, StatusCode::OK);
    let answer = store.get("node", &artifact_path(&hello)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.content_length(), Some(5));
    assert_eq!(answer.bytes().await.unwrap(), "hello");
    assert_eq!(store.get("node", &artifact_path(&digest("nothing"))).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn travels_compressed_between_those_who_can() {
    let store = store().await;
    let text = "train/images/".repeat(70);
    let (digest, mut frame) = (digest(&text), Vec::new());
    compress(text.as_bytes(), text.len() as u64, &mut frame).unwrap();
    let url = format!("{}{}", store.url, artifact_path(&digest));
    let put = |coding: &'static str| {
        let request = store.client.put(&url).bearer_auth("job").header("content-encoding", coding);
        request.body(frame.clone()).send()
    };
    let refused = put("gzip").await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(refused.json::<Problem>().await.unwrap().message.contains("gzip"));
    assert_eq!(put("identity").await.unwrap().status(), StatusCode::BAD_REQUEST, "the digest is the content's");
    assert_eq!(put("zstd").await.unwrap().status(), StatusCode::CREATED);
    for (accepted, coding, body) in [("zstd", Some("zstd"), &frame[..]), ("gzip, br", None, text.as_bytes())] {
        let request = store.client.get(&url).bearer_auth("node").header("accept-encoding", accepted);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.content_length(), Some(body.len() as u64));
        assert_eq!(answer.headers().get("content-encoding").map(|value| value.to_str().unwrap()), coding);
        assert!(answer.bytes().await.unwrap() == body, "{accepted}");
    }
}

#[tokio::test]
async fn only_what_has_the_digest_is_kept() {
    let store = store().await;
    let long: &'static str = Box::leak("x".repeat(1001).into_boxed_str());
    assert_eq!(store.put("job", &digest("hello"), "other").await, StatusCode::BAD_REQUEST);
    assert_eq!(store.put("job", &digest(long), long).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(store.put("job", "sha256:short", "x").await, StatusCode::BAD_REQUEST);
    assert_eq!(store.get("node", &artifact_path(&digest("hello"))).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn everybody_gets_only_what_is_theirs() {
    let store = store().await;
    let (parent, other) = (digest("parent"), digest("other"));
    store.put("job", &parent, "parent").await;
    store.put("job", &other, "other").await;
    for (token, path, expected) in [
        ("node", artifact_path(&other), StatusCode::OK),
        ("job", artifact_path(&parent), StatusCode::OK),
        ("job", artifact_path(&other), StatusCode::FORBIDDEN),
        ("stranger", artifact_path(&parent), StatusCode::FORBIDDEN),
        ("", artifact_path(&parent), StatusCode::UNAUTHORIZED),
        ("wrong", artifact_path(&parent), StatusCode::UNAUTHORIZED),
        ("job", "/v1/assignment".to_owned(), StatusCode::OK),
        ("node", "/v1/assignment".to_owned(), StatusCode::FORBIDDEN),
        ("node", "/v1/artifacts/..%2f..%2ftls%2fca.key".to_owned(), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(store.get(token, &path).await.status(), expected, "{token} {path}");
    }
    assert_eq!(store.put("node", &digest("x"), "x").await, StatusCode::FORBIDDEN);
    assert_eq!(store.put("wrong", &digest("x"), "x").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_result_is_taken_and_an_error_explains_itself() {
    let store = store().await;
    let failure = IndexFailure { reason: "BucketNotFound".to_owned(), message: "make it".to_owned() };
    let result = IndexResult::Failed(failure);
    let url = format!("{}{RESULT_PATH}", store.url);
    let sent = store.client.post(&url).bearer_auth("job").json(&result).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::OK);
    assert_eq!(*store.desk.results.lock(), [result]);
    let wrong = store.client.post(&url).bearer_auth("job").body("{}").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let problem: Problem = wrong.json().await.unwrap();
    assert!(problem.message.contains("not a result"), "{}", problem.message);
}

#[test]
fn the_authority_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = tls::prepare(dir.path(), &["localhost".to_owned()]).unwrap();
    let second = tls::prepare(dir.path(), &["elsewhere".to_owned()]).unwrap();
    assert_eq!(first.ca_pem, second.ca_pem);
}
