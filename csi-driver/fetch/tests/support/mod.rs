//! A sound server on loopback behind a proxy that can be told to misbehave.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    net::SocketAddr,
    sync::{Arc, MutexGuard, Once},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use granary_faults::{BUCKET, Fault, Proxy, Request, State, Store};
use granary_fetch::{
    ByteStream, Identity, Listed, S3Options, SecretKeys, Source, SourceConfig, SourceError, SourcePolicy,
};

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub store: Store,
    pub proxy: Proxy,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_at([127, 0, 0, 1]).await
    }

    /// At an address of loopback.
    pub async fn start_at(address: [u8; 4]) -> Self {
        install_provider();
        let store = Store::start().await.unwrap();
        let proxy = Proxy::start_at((address, 0).into(), store.address()).await.unwrap();
        Self { address: proxy.address(), store, proxy }
    }

    /// Behind TLS and without the proxy, with a certificate of its own authority, which is returned as PEM.
    pub async fn start_tls() -> (Self, String) {
        install_provider();
        let (store, listener) = Store::bind().await.unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], made.signing_key.serialize_der().try_into().unwrap())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let proxy = Proxy::start(store.address()).await.unwrap();
        let server = Self { address: store.address(), store: store.clone(), proxy };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, store) = (acceptor.clone(), store.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        store.serve(stream).await;
                    }
                });
            }
        });
        (server, made.cert.pem())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.store.state()
    }

    /// Puts a new version of an object.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.store.put(key, bytes);
    }

    /// Faults of the next reads of objects, one each.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.proxy.fail(faults);
    }

    /// Statuses of the next pages of listings.
    pub fn fail_listings(&self, statuses: impl IntoIterator<Item = u16>) {
        self.proxy.fail_listings(statuses.into_iter().map(Fault::Status));
    }

    pub fn requests(&self) -> Vec<Request> {
        self.proxy.asked().into_iter().map(|asked| asked.request).collect()
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
