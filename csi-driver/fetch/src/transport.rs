//! How requests leave this machine: one HTTP client with our own trust, timeouts and address guard.
//!
//! OpenDAL builds and signs the requests of object stores, but does not send the reads itself: it hands out a body without
//! the answer's headers, and whether the bytes are the right ones can only be told from those. So reads of all sources are
//! sent here and compared with the pin in one place (`verify`), and no layer copies the body on its way.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Certificate, Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::Host;

use crate::{SecretKeys, SourceError, SourcePolicy};

/// Until a connection is made, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server, before its answer and within it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;

/// Whether redirects are followed. A signature holds for one host and path, so signed requests never follow any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    Follow,
    Refuse,
}

/// Sends the requests of one source.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: Client,
    uri: Arc<str>,
    policy: Arc<SourcePolicy>,
}

impl Transport {
    /// `keys` may hold a `ca.crt` that is trusted besides the system's authorities.
    pub(crate) fn new(
        uri: &str,
        keys: &SecretKeys,
        name: Option<&str>,
        policy: Arc<SourcePolicy>,
        redirects: Redirects,
    ) -> Result<Self, SourceError> {
        let mut roots = system_roots().to_vec();
        if let Some(pem) = keys.get(name, "ca.crt") {
            let own = Certificate::from_pem_bundle(pem.as_bytes())
                .ok()
                .filter(|own| !own.is_empty())
                .ok_or_else(|| SourceError::invalid(uri, "'ca.crt' of the Secret holds no PEM certificates"))?;
            roots.extend(own);
        }
        let guard = Guard(policy.clone());
        let redirects = match redirects {
            Redirects::Refuse => redirect::Policy::none(),
            Redirects::Follow => guarded_redirects(policy.clone()),
        };
        let client = Client::builder()
            .user_agent(concat!("granary/", env!("CARGO_PKG_VERSION")))
            .tls_certs_only(roots)
            .no_proxy()
            .http1_only()
            .referer(false)
            .retry(reqwest::retry::never())
            .redirect(redirects)
            .dns_resolver(guard)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| {
                SourceError::invalid(uri, format!("no HTTP client can be made ({})", root_cause(&error)))
            })?;
        Ok(Self { client, uri: uri.into(), policy })
    }

    /// The source's URI, for messages.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn unavailable(&self, detail: impl Into<String>) -> SourceError {
        SourceError::Unavailable { uri: self.uri.to_string(), detail: detail.into() }
    }

    pub(crate) fn too_large(&self, message: String) -> SourceError {
        SourceError::TooLarge { uri: self.uri.to_string(), message }
    }

    /// Sends a request and gives the answer, whatever its status.
    pub(crate) async fn send(&self, request: http::Request<Bytes>) -> Result<Response, SourceError> {
        let request = reqwest::Request::try_from(request).map_err(|error| self.failure(error))?;
        // A resolver never sees an address that is written as such.
        if let Some(address) = literal_address(request.url()).filter(|&address| !self.policy.allows(address)) {
            return Err(SourceError::address_denied(&self.uri, address));
        }
        self.client.execute(request).await.map_err(|error| self.failure(error))
    }

    /// What a failure of the client means. Its texts name no URL: those can hold signatures.
    pub(crate) fn failure(&self, error: reqwest::Error) -> SourceError {
        let uri = self.uri.to_string();
        if let Some(refused) = find_refused(&error) {
            return match refused {
                Refused::Address(address) => SourceError::address_denied(&uri, *address),
                Refused::Redirect(message) => SourceError::denied(&uri, *message),
            };
        }
        let detail = root_cause(&error);
        if error.is_connect() {
            SourceError::EndpointUnreachable { uri, detail }
        } else if error.is_timeout() {
            SourceError::Timeout { uri, detail: format!("nothing came for {} s", READ_TIMEOUT.as_secs()) }
        } else if error.is_builder() {
            SourceError::invalid(&uri, format!("no request can be made of it ({detail})"))
        } else {
            SourceError::Unavailable { uri, detail }
        }
    }
}

/// The authorities of the system, or those that Mozilla trusts where it has none, as in an image without any file.
fn system_roots() -> &'static [Certificate] {
    static ROOTS: OnceLock<Vec<Certificate>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "an authority of the system cannot be used");
        }
        let parse = |der: &[u8]| Certificate::from_der(der).ok();
        let roots: Vec<_> = native.certs.iter().filter_map(|der| parse(der)).collect();
        if roots.is_empty() {
            webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| parse(der)).collect()
        } else {
            roots
        }
    })
}

/// Why the guard stopped a request.
#[derive(Debug)]
enum Refused {
    Address(IpAddr),
    Redirect(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "the address {address} is not allowed"),
            Self::Redirect(message) => f.write_str(message),
        }
    }
}

impl Error for Refused {}

/// Resolves names and keeps only addresses that the policy allows. The client connects to what came out of here and to
/// nothing else, so a name cannot change its meaning between check and use.
#[derive(Debug)]
struct Guard(Arc<SourcePolicy>);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> = found.iter().copied().filter(|address| policy.allows(address.ip())).collect();
            match (allowed.is_empty(), found.first()) {
                (true, Some(refused)) => Err(Refused::Address(refused.ip()).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

fn guarded_redirects(policy: Arc<SourcePolicy>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        let refusal = if attempt.previous().len() > MAX_REDIRECTS {
            Some(Refused::Redirect("it redirects again and again; name the last place in uri"))
        } else if from_tls && attempt.url().scheme() != "https" {
            Some(Refused::Redirect(
                "it redirects from https to a scheme without encryption; name a place with https in uri",
            ))
        } else {
            literal_address(attempt.url()).filter(|&address| !policy.allows(address)).map(Refused::Address)
        };
        match refusal {
            Some(refusal) => attempt.error(refusal),
            None => attempt.follow(),
        }
    })
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn find_refused(error: &reqwest::Error) -> Option<&Refused> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The innermost error's text: the outer ones repeat the URL and say less.
fn root_cause(error: &reqwest::Error) -> String {
    chain(error).last().filter(|last| !last.is::<reqwest::Error>()).map_or_else(
        || if error.is_timeout() { "timed out".to_owned() } else { "the request failed".to_owned() },
        ToString::to_string,
    )
}
