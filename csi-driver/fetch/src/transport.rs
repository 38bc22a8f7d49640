//! How requests leave this machine: one HTTP client with our own trust, timeouts and address guard.
//!
//! OpenDAL does not send the reads itself: it hands out a body without the answer's headers, and whether the bytes are the
//! right ones can only be told from those. So reads of all sources are sent here and compared with the pin in one place
//! (`verify`), and no layer copies the body on its way.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use url::Url;

use crate::{
    SecretKeys, SourceError, SourcePolicy,
    client::{Body, Client, Failure, SILENCE},
    guard::{AddressRefused, Guard},
    slowdowns::Slowdowns,
    tls,
};

const MAX_REDIRECTS: usize = 5;

/// Whether redirects are followed. A signature holds for one host and path, so signed requests never follow any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    Follow,
    Refuse,
}

/// Sends the requests of one source.
#[derive(Clone, Debug)]
pub(crate) struct Transport(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    uri: String,
    guard: Guard,
    redirects: Redirects,
    slowdowns: Slowdowns,
}

impl Transport {
    /// `keys` may hold a `ca.crt` that is trusted besides the system's authorities.
    pub(crate) fn new(
        uri: &str,
        keys: &SecretKeys,
        name: Option<&str>,
        policy: Arc<SourcePolicy>,
        redirects: Redirects,
        slowdowns: Slowdowns,
    ) -> Result<Self, SourceError> {
        let guard = Guard::new(policy);
        let client = Client::new(guard.clone(), tls::config(uri, keys.get(name, "ca.crt"))?);
        Ok(Self(Arc::new(Inner { client, uri: uri.to_owned(), guard, redirects, slowdowns })))
    }

    /// The source's URI, for messages.
    pub(crate) fn uri(&self) -> &str {
        &self.0.uri
    }

    pub(crate) fn unavailable(&self, detail: impl Into<String>) -> SourceError {
        SourceError::Unavailable { uri: self.0.uri.clone(), detail: detail.into() }
    }

    pub(crate) fn too_large(&self, message: String) -> SourceError {
        SourceError::TooLarge { uri: self.0.uri.clone(), message }
    }

    /// To be told that the source wants fewer requests.
    pub(crate) fn slowdowns(&self) -> &Slowdowns {
        &self.0.slowdowns
    }

    /// Sends a request and gives the answer, whatever its status.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, SourceError> {
        let request = request.map(Full::new);
        match self.0.redirects {
            Redirects::Refuse => self.once(request).await,
            Redirects::Follow => self.following(request).await,
        }
    }

    async fn once(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, SourceError> {
        let refused = |refused: AddressRefused| SourceError::address_denied(&self.0.uri, refused.0);
        self.0.guard.check_host(request.uri().host().unwrap_or_default()).map_err(refused)?;
        self.0.client.send(request).await.map_err(|failure| self.failure(failure))
    }

    async fn following(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Body>, SourceError> {
        for _ in 0..=MAX_REDIRECTS {
            let next = request.clone();
            let answer = self.once(request).await?;
            let Some(to) = redirect(&next, &answer) else { return Ok(answer) };
            request = self.redirected(next, &to)?;
        }
        Err(SourceError::denied(&self.0.uri, "it redirects again and again; name the last place in uri"))
    }

    /// The same request for another place. Who we are is told to the server that the user named, and to no other.
    fn redirected(&self, mut request: Request<Full<Bytes>>, to: &Url) -> Result<Request<Full<Bytes>>, SourceError> {
        let from = request.uri();
        if from.scheme_str() == Some("https") && to.scheme() != "https" {
            let message = "it redirects from https to a scheme without encryption; name a place with https in uri";
            return Err(SourceError::denied(&self.0.uri, message));
        }
        let uri: http::Uri = to.as_str().parse().map_err(|_| self.unavailable("it redirects to no usable URL"))?;
        if from.scheme() != uri.scheme() || from.authority() != uri.authority() {
            request.headers_mut().remove(header::AUTHORIZATION);
        }
        *request.uri_mut() = uri;
        Ok(request)
    }

    /// What a failure of the client means. Its texts name no URL: those can hold signatures.
    pub(crate) fn failure(&self, failure: Failure) -> SourceError {
        let uri = self.0.uri.clone();
        match failure {
            Failure::Connect(error) => match chain(&*error).find_map(|error| error.downcast_ref::<AddressRefused>()) {
                Some(refused) => SourceError::address_denied(&uri, refused.0),
                None => SourceError::EndpointUnreachable { uri, detail: root_cause(&*error) },
            },
            Failure::Silence => {
                self.0.slowdowns.add();
                SourceError::Timeout { uri, detail: format!("nothing came for {} s", SILENCE.as_secs()) }
            }
            Failure::Broken(error) => SourceError::Unavailable { uri, detail: root_cause(&error) },
            Failure::Request(detail) => SourceError::invalid(&uri, format!("no request can be made of it ({detail})")),
        }
    }
}

/// Where the answer says that the object is. Only requests that change nothing are made with `Redirects::Follow`.
fn redirect(request: &Request<Full<Bytes>>, answer: &Response<Body>) -> Option<Url> {
    let follows = matches!(
        answer.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !follows || ![Method::GET, Method::HEAD].contains(request.method()) {
        return None;
    }
    let location = location(answer.headers())?;
    let base = Url::parse(&request.uri().to_string()).ok()?;
    let mut to = base.join(location).ok()?;
    to.set_fragment(None);
    Some(to)
}

fn location(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::LOCATION)?.to_str().ok()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost error's text: the outer ones say less.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}
