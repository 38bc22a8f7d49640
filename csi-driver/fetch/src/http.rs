//! `http(s)://` sources: a file, or a directory whose index the Dataset gives. No signature is needed, so requests are made
//! and sent without OpenDAL.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use granary_image::{Pin, PinKind};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use url::Url;

use crate::{
    ByteStream, Credentials, Identity, Listed, SecretKeys, SourceConfig, SourceError, SourcePolicy,
    credentials::PerKeys,
    patience::patiently,
    refusal::refusal,
    slowdowns::Slowdowns,
    transport::{Redirects, Transport},
    uri::has_dot_segments,
    verify::{Wanted, condition, last_modified},
};

/// How many files of an index are asked for at once.
const CONCURRENT_HEADS: usize = 8;

/// An HTTP server's file or directory.
pub(crate) struct HttpSource {
    config: SourceConfig,
    url: Url,
    /// Keys of the index; `None` when the URI names one file.
    index: Option<Vec<String>>,
    credentials: Arc<dyn Credentials>,
    policy: Arc<SourcePolicy>,
    clients: PerKeys<Client>,
    slowdowns: Slowdowns,
}

/// A transport and what says who we are.
#[derive(Clone, Debug)]
struct Client {
    transport: Transport,
    authorization: Option<HeaderValue>,
}

impl HttpSource {
    pub(crate) fn open(
        config: &SourceConfig,
        url: Url,
        directory: bool,
        credentials: Arc<dyn Credentials>,
        policy: Arc<SourcePolicy>,
        slowdowns: Slowdowns,
    ) -> Result<Self, SourceError> {
        let index = match (&config.http, directory) {
            (Some(http), true) => Some(http.files.iter().map(|file| file.path.clone()).collect()),
            (None, true) => {
                return Err(SourceError::invalid(
                    &config.uri,
                    "a directory cannot be listed over HTTP: name its files in http.files",
                ));
            }
            (_, false) => None,
        };
        let source =
            Self { config: config.clone(), url, index, credentials, policy, clients: PerKeys::new(), slowdowns };
        for key in source.index.iter().flatten() {
            source.url_of(key)?;
        }
        Ok(source)
    }

    /// All files of the index, in its order.
    pub(crate) fn list(&self) -> impl Stream<Item = Result<Listed, SourceError>> + Send + '_ {
        let keys = match &self.index {
            Some(index) => index.iter().map(String::as_str).collect(),
            None => vec![""],
        };
        stream::iter(keys).map(move |key| patiently(move || self.head(key))).buffered(CONCURRENT_HEADS)
    }

    pub(crate) async fn read(&self, wanted: Wanted) -> Result<ByteStream, SourceError> {
        let client = self.client()?;
        let mut request = self.request(&client, Method::GET, &wanted.key)?;
        let range = HeaderValue::from_str(&wanted.range_header())
            .map_err(|_| SourceError::invalid(&self.config.uri, "no such range"))?;
        request.headers_mut().insert(header::RANGE, range);
        condition(request.headers_mut(), &wanted.pin);
        wanted.fetch(&client.transport, request).await
    }

    async fn head(&self, key: &str) -> Result<Listed, SourceError> {
        let client = self.client()?;
        let request = self.request(&client, Method::HEAD, key)?;
        let response = client.transport.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(&client.transport, Some(key), response).await);
        }
        let headers = response.headers();
        let size = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let size = size.ok_or_else(|| SourceError::BadAnswer {
            uri: self.config.uri.clone(),
            key: key.to_owned(),
            detail: "its answer to HEAD has no Content-Length".to_owned(),
        })?;
        Ok(Listed { key: key.to_owned(), size, pin: pin(headers) })
    }

    fn request(&self, client: &Client, method: Method, key: &str) -> Result<Request<Bytes>, SourceError> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() =
            self.url_of(key)?.as_str().parse().map_err(|_| SourceError::invalid(&self.config.uri, "it is too long"))?;
        // A body that is compressed on its way has no length and no ranges.
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(value) = &client.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    fn url_of(&self, key: &str) -> Result<Url, SourceError> {
        let mut url = self.url.clone();
        if self.index.is_none() {
            return Ok(url);
        }
        let error = || {
            SourceError::invalid(
                &self.config.uri,
                format!(
                    "'{}' in http.files must be a relative path without '.', '..' or empty parts",
                    key.escape_debug()
                ),
            )
        };
        if has_dot_segments(key) || key.split('/').any(str::is_empty) {
            return Err(error());
        }
        url.path_segments_mut().map_err(|()| error())?.pop_if_empty().extend(key.split('/'));
        Ok(url)
    }

    fn client(&self) -> Result<Client, SourceError> {
        self.clients.get(self.credentials.current(), |keys| {
            let name = self.config.name.as_deref();
            let transport = Transport::new(
                &self.config.uri,
                keys,
                name,
                self.policy.clone(),
                Redirects::Follow,
                self.slowdowns.clone(),
            )?;
            let authorization = match self.config.identity {
                Identity::Secret => authorization(&self.config, keys)?,
                Identity::Anonymous | Identity::Ambient => None,
            };
            Ok(Client { transport, authorization })
        })
    }
}

/// A token comes before a password. A Secret that only has a `ca.crt` is complete, too.
fn authorization(config: &SourceConfig, keys: &SecretKeys) -> Result<Option<HeaderValue>, SourceError> {
    let name = config.name.as_deref();
    let username = keys.get(name, "username");
    let password = keys.get_beside(name, "username", "password");
    let text = match (keys.get(name, "token"), username, password) {
        (Some(token), ..) => format!("Bearer {token}"),
        (None, Some(username), Some(password)) => {
            format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
        }
        (None, None, None) if keys.get(name, "ca.crt").is_some() => return Ok(None),
        (None, None, None) => {
            return Err(SourceError::keys_missing(
                &config.uri,
                keys,
                &[("username", None), ("password", None), ("token (instead of both)", None)],
            ));
        }
        (None, ..) => {
            return Err(SourceError::keys_missing(
                &config.uri,
                keys,
                &[("username", username), ("password", password)],
            ));
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| SourceError::invalid(&config.uri, "the token, username or password in the Secret has a line break or another character that no header can hold"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn pin(headers: &HeaderMap) -> Pin {
    let etag = headers.get(header::ETAG).and_then(|value| value.to_str().ok()).filter(|etag| etag.starts_with('"'));
    match (etag, last_modified(headers)) {
        (Some(etag), _) => Pin { kind: PinKind::ETag, value: etag.to_owned() },
        (None, Some(time)) => Pin { kind: PinKind::ModificationTime, value: time.to_string() },
        (None, None) => Pin { kind: PinKind::SizeOnly, value: String::new() },
    }
}
