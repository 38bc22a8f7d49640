//! The operator's side of the exchange, over TLS on loopback.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use granary_crds::exchange::coding::{Coding, Decompressor, compress};
use granary_crds::exchange::{Assignment, IndexResult, Problem};
use granary_csi_driver::store::{Authority, StoreAddress, StoreClient};
use granary_image::Digest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// What the operator has, and how it behaves.
#[derive(Default)]
pub struct Store {
    pub assignments: Vec<Assignment>,
    pub artifacts: HashMap<String, Vec<u8>>,
    pub results: Vec<IndexResult>,
    /// Statuses of the next answers, before any is right.
    pub failures: Vec<StatusCode>,
    /// Results that lose a race.
    pub conflicts: usize,
    pub token: String,
    /// It knows no zstd, as an older one.
    pub is_old: bool,
    /// Answers instead of artifacts: a coding and a body.
    pub answers: Vec<(&'static str, Vec<u8>)>,
    /// Bytes of the bodies that came.
    pub received: usize,
}

type Shared = Arc<Mutex<Store>>;

/// An operator that runs until it is dropped.
pub struct Operator {
    store: Shared,
    files: TempDir,
    address: SocketAddr,
    handle: Handle<SocketAddr>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl Operator {
    pub async fn start() -> Self {
        // The other tests of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::new(Mutex::new(Store { token: "first".into(), ..Store::default() }));
        let files = tempfile::tempdir().unwrap();
        let (authority, certificate, key) = certificates();
        std::fs::write(files.path().join("ca.crt"), authority).unwrap();
        std::fs::write(files.path().join("token"), "first\n").unwrap();
        let tls = RustlsConfig::from_pem(certificate.into_bytes(), key.into_bytes()).await.unwrap();
        let handle = Handle::new();
        let server = axum_server::bind_rustls("127.0.0.1:0".parse().unwrap(), tls).handle(handle.clone());
        tokio::spawn(server.serve(router(store.clone()).into_make_service()));
        let address = handle.listening().await.unwrap();
        Self { store, files, address, handle }
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        change(&mut self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn client(&self) -> StoreClient {
        let address = StoreAddress {
            url: self.url(),
            authority: Authority::File(self.file("ca.crt")),
            token_file: self.file("token"),
        };
        StoreClient::new(address, Duration::from_millis(1))
    }

    /// Puts `bytes` into the store.
    pub fn hold(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.change(|store| store.artifacts.insert(digest.to_string(), bytes.to_vec()));
        digest
    }
}

/// A new authority's certificate, and a certificate of `localhost` with its key, in PEM.
pub fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

fn router(store: Shared) -> Router {
    Router::new()
        .route("/v1/assignment", get(assignment))
        .route("/v1/artifacts/{digest}", get(artifact).put(put).layer(DefaultBodyLimit::disable()))
        .route("/v1/result", post(result))
        .with_state(store)
}

type Refusal = (StatusCode, Json<Problem>);

fn problem(status: StatusCode, message: &str) -> Refusal {
    (status, Json(Problem { message: message.to_owned() }))
}

/// What happens before a request is looked at.
fn admit(store: &mut Store, headers: &HeaderMap) -> Result<(), Refusal> {
    if !store.failures.is_empty() {
        return Err(problem(store.failures.remove(0), "not now"));
    }
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    if token != Some(&format!("Bearer {}", store.token)) {
        return Err(problem(StatusCode::UNAUTHORIZED, "who is this?"));
    }
    Ok(())
}

async fn assignment(State(store): State<Shared>, headers: HeaderMap) -> Result<Json<Assignment>, Refusal> {
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    admit(&mut store, &headers)?;
    match store.assignments.is_empty() {
        true => Err(problem(StatusCode::NOT_FOUND, "nothing to do")),
        false => Ok(Json(store.assignments.remove(0))),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// `content` in one frame.
pub fn zstd(content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    compress(content, content.len() as u64, &mut frame).unwrap();
    frame
}

async fn artifact(
    State(store): State<Shared>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    admit(&mut store, &headers)?;
    let packed = |coding, body| Ok(([("content-encoding", coding)], body).into_response());
    if let Some((coding, body)) = store.answers.pop() {
        return packed(coding, body);
    }
    let found = store.artifacts.get(&digest);
    let found = found.ok_or_else(|| problem(StatusCode::NOT_FOUND, "no such artifact"))?;
    match Coding::accepted(header(&headers, "accept-encoding")) {
        Coding::Zstd if !store.is_old => packed("zstd", zstd(found)),
        _ => Ok(found.clone().into_response()),
    }
}

async fn put(
    State(store): State<Shared>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    admit(&mut store.lock().unwrap_or_else(PoisonError::into_inner), &headers)?;
    let body = to_bytes(body, usize::MAX).await.map_err(|_| problem(StatusCode::BAD_REQUEST, "half a body"))?;
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    store.received += body.len();
    let content = match Coding::of(header(&headers, "content-encoding")) {
        Some(Coding::Zstd) => {
            let (mut decompressor, mut content, mut rest) =
                (Decompressor::new(1 << 30).unwrap(), Vec::new(), &body[..]);
            while let Some(bytes) = decompressor.step(&mut rest).unwrap() {
                content.extend_from_slice(bytes);
            }
            content
        }
        Some(Coding::Identity) => body.to_vec(),
        None => return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "another coding")),
    };
    if Digest::of(&content).to_string() != digest {
        return Err(problem(StatusCode::BAD_REQUEST, "another digest"));
    }
    store.artifacts.insert(digest, content);
    Ok(StatusCode::CREATED)
}

async fn result(
    State(store): State<Shared>,
    headers: HeaderMap,
    Json(result): Json<IndexResult>,
) -> Result<StatusCode, Refusal> {
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    admit(&mut store, &headers)?;
    if store.conflicts > 0 {
        store.conflicts -= 1;
        return Err(problem(StatusCode::CONFLICT, "the parent is no longer the newest"));
    }
    store.results.push(result);
    Ok(StatusCode::OK)
}
