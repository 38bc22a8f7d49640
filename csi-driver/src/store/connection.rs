//! The way to the image store: its certificate authority and the client's token may change while the client lives.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, Method, RequestBuilder};

use super::StoreError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the image store is, and who asks.
#[derive(Clone, Debug)]
pub struct StoreAddress {
    /// `https://host:port`
    pub url: String,
    /// Whom to trust.
    pub authority: Authority,
    /// File with the token; read for every request, for it is renewed.
    pub token_file: PathBuf,
}

/// The certificate authority of the store's certificate.
#[derive(Clone, Debug)]
pub enum Authority {
    /// In PEM.
    Pem(String),
    /// A file in PEM; read for every request, for it may come later than the client, and change.
    File(PathBuf),
}

pub(super) struct Connection {
    address: StoreAddress,
    /// The client of an authority, which keeps connections open.
    client: Mutex<Option<(String, Client)>>,
}

impl Connection {
    pub(super) fn new(mut address: StoreAddress) -> Self {
        address.url.truncate(address.url.trim_end_matches('/').len());
        Self { address, client: Mutex::new(None) }
    }

    /// A request with the token of this moment.
    pub(super) async fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, StoreError> {
        let token = read(&self.address.token_file).await?;
        let client = self.client().await?;
        Ok(client.request(method, format!("{}{path}", self.address.url)).bearer_auth(token.trim()))
    }

    async fn client(&self) -> Result<Client, StoreError> {
        let pem = match &self.address.authority {
            Authority::Pem(pem) => pem.clone(),
            Authority::File(path) => read(path).await?,
        };
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, client)) if *of == pem => Ok(client.clone()),
            _ => {
                let client = build(&pem)?;
                *known = Some((pem, client.clone()));
                Ok(client)
            }
        }
    }
}

async fn read(path: &std::path::Path) -> Result<String, StoreError> {
    tokio::fs::read_to_string(path).await.map_err(|error| StoreError::file("read", path, error))
}

fn build(pem: &str) -> Result<Client, StoreError> {
    let useless = |error: reqwest::Error| StoreError::Authority(error.to_string());
    let authorities = Certificate::from_pem_bundle(pem.as_bytes()).map_err(useless)?;
    if authorities.is_empty() {
        return Err(StoreError::Authority("there is no certificate in it (yet)".to_owned()));
    }
    Client::builder()
        .tls_certs_only(authorities)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(useless)
}
