//! A small S3 and HTTP server on loopback that can be told to misbehave.

#![allow(dead_code, reason = "each test binary uses its own part")]

mod answer;
pub mod fault;
mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, Once},
};

use bytes::Bytes;
use fault::Fault;
use futures::TryStreamExt as _;
use granary_fetch::{
    ByteStream, Identity, Listed, S3Options, SecretKeys, Source, SourceConfig, SourceError, SourcePolicy,
};
use tokio::net::TcpListener;
pub use wire::Request;

/// One version of an object.
#[derive(Clone, Debug)]
pub struct Stored {
    pub bytes: Bytes,
    pub etag: Option<String>,
    pub version: String,
    pub last_modified: Option<String>,
}

#[derive(Default)]
pub struct State {
    /// Versions of each key, the newest last.
    pub objects: BTreeMap<String, Vec<Stored>>,
    /// Faults of the next reads of objects, one each.
    pub faults: VecDeque<Fault>,
    /// Statuses of the next pages of listings.
    pub list_faults: VecDeque<u16>,
    /// Whether pages say that there is more, but not where.
    pub loses_token: bool,
    /// Connections that were accepted, but for those with TLS.
    pub connections: usize,
    /// What was asked.
    pub requests: Vec<Request>,
    /// If set, requests must be signed with this key id or carry this Authorization.
    pub key_id: Option<String>,
    /// Answers of paths before anything else: status and Location.
    pub redirects: BTreeMap<String, (u16, String)>,
    pub page: usize,
    pub versioned: bool,
}

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

pub const BUCKET: &str = "bucket";

impl Server {
    pub async fn start() -> Self {
        Self::start_at([127, 0, 0, 1]).await
    }

    /// At an address of loopback.
    pub async fn start_at(address: [u8; 4]) -> Self {
        let (server, listener) = Self::bind(address).await;
        let state = server.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().unwrap().connections += 1;
                tokio::spawn(wire::serve(stream, state.clone()));
            }
        });
        server
    }

    /// The same behind TLS, with a certificate of its own authority, which is returned as PEM.
    pub async fn start_tls() -> (Self, String) {
        let (server, listener) = Self::bind([127, 0, 0, 1]).await;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        install_provider();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], made.signing_key.serialize_der().try_into().unwrap())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let state = server.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), state.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        wire::serve(stream, state).await;
                    }
                });
            }
        });
        (server, made.cert.pem())
    }

    async fn bind(address: [u8; 4]) -> (Self, TcpListener) {
        install_provider();
        let listener = TcpListener::bind((IpAddr::from(address), 0)).await.unwrap();
        let state = State { page: 3, ..State::default() };
        (Self { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) }, listener)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a new version of an object.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let mut state = self.state();
        let versions = state.objects.entry(key.to_owned()).or_default();
        let number = versions.len();
        versions.push(Stored {
            bytes: bytes.into(),
            etag: Some(format!("\"{number}-{:x}\"", key.len())),
            version: format!("v{number}"),
            last_modified: Some(format!("Wed, 01 May 2024 10:00:{number:02} GMT")),
        });
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    pub fn s3(&self, path: &str) -> SourceConfig {
        let endpoint = Some(format!("http://{}", self.address));
        SourceConfig {
            uri: format!("s3://{BUCKET}/{path}"),
            s3: S3Options { endpoint, ..S3Options::default() },
            ..SourceConfig::default()
        }
    }

    pub fn http(&self, path: &str) -> SourceConfig {
        SourceConfig { uri: format!("http://{}/{path}", self.address), ..SourceConfig::default() }
    }
}

pub fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
}

/// What the tests' server needs, and no more.
pub fn loopback() -> Arc<SourcePolicy> {
    Arc::new(SourcePolicy { allowed_networks: vec!["127.0.0.0/8".parse().unwrap()], ..SourcePolicy::default() })
}

pub fn open(config: &SourceConfig) -> Arc<Source> {
    Source::open(config, Arc::new(granary_fetch::NoCredentials), loopback()).unwrap()
}

pub fn with_secret(config: SourceConfig) -> SourceConfig {
    SourceConfig { identity: Identity::Secret, ..config }
}

pub fn keys(pairs: &[(&str, &str)]) -> SecretKeys {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub async fn list(source: &Source) -> Result<Vec<Listed>, SourceError> {
    source.list().try_collect().await
}

/// The error of listing or opening.
pub async fn list_error(source: Result<Arc<Source>, SourceError>) -> SourceError {
    match source {
        Ok(source) => list(&source).await.unwrap_err(),
        Err(error) => error,
    }
}

pub async fn collect(body: Result<ByteStream, SourceError>) -> Result<Vec<u8>, SourceError> {
    Ok(body?.try_collect::<Vec<Bytes>>().await?.concat())
}

/// Reads a whole listed object.
pub async fn read_all(source: &Source, object: &Listed) -> Result<Vec<u8>, SourceError> {
    collect(source.read(&object.key, &object.pin, object.size, 0..object.size).await).await
}
