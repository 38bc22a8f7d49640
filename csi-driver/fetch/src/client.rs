//! An HTTP/1.1 client: hyper's connections and a pool of them. It follows nothing, tries nothing twice and judges no answer.
//!
//! The usual clients spawn a task, parse the URL twice and copy the head several times for each request: 15 us of CPU, where
//! hyper itself needs 22 for an object of 100 KB.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri::Scheme};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1::Builder,
    rt::{Read, Write},
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tower::Service as _;

use crate::{
    guard::Guard,
    pool::{Place, Pool, Sender},
};

/// Until a connection is made, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server, before its answer and within it.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// Bytes that a connection reads at once, and has in memory for it. Fewer cost more calls of the kernel: 400 KiB are hardly
/// faster.
const BUFFER: usize = 256 << 10;

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be made.
    Connect(Box<dyn Error + Send + Sync>),
    /// The server said nothing for too long.
    Silence,
    /// The connection broke, or is no HTTP.
    Broken(hyper::Error),
    /// There can be no such request.
    Request(&'static str),
}

/// Sends requests over connections that it keeps.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pool: Arc<Pool>,
    connector: HttpConnector<Guard>,
    tls: Arc<ClientConfig>,
}

impl Client {
    pub(crate) fn new(guard: Guard, tls: Arc<ClientConfig>) -> Self {
        let mut connector = HttpConnector::new_with_resolver(guard);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        // Shared out among a name's addresses, so that one that does not answer leaves time for the next.
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self { pool: Pool::new(), connector, tls }
    }

    /// Gives the answer once its head is there.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Body>, Failure> {
        let place = prepare(&mut request)?;
        loop {
            let waiting = timeout(SILENCE, self.pool.take(&place)).await.map_err(|_| Failure::Silence)?;
            let reused = waiting.is_some();
            let mut sender = match waiting {
                Some(sender) => sender,
                None => self.connect(&place).await?,
            };
            match timeout(SILENCE, sender.try_send_request(request)).await {
                Ok(Ok(answer)) => {
                    let connection = Connection { place, sender, pool: self.pool.clone() };
                    return Ok(answer.map(|incoming| Body::new(incoming, connection)));
                }
                Ok(Err(mut error)) => match error.take_message() {
                    // Closed by the server while it waited: nothing of the request has left.
                    Some(unsent) if reused => request = unsent,
                    _ => return Err(Failure::Broken(error.into_error())),
                },
                Err(_) => return Err(Failure::Silence),
            }
        }
    }

    async fn connect(&self, place: &Place) -> Result<Sender, Failure> {
        #[cfg(fuzzing)]
        if let Some(stream) = crate::fuzz::connection() {
            return handshake(stream).await.map_err(|error| Failure::Connect(error.into()));
        }
        let connecting = async {
            let uri =
                Uri::builder().scheme(place.scheme.clone()).authority(place.authority.clone()).path_and_query("/");
            let stream = self.connector.clone().call(uri.build()?).await?;
            if place.scheme != Scheme::HTTPS {
                return Ok(handshake(stream).await?);
            }
            let host = place.authority.host();
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
            let stream = TlsConnector::from(self.tls.clone()).connect(name, stream.into_inner()).await?;
            Ok(handshake(TokioIo::new(stream)).await?)
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(made) => made.map_err(Failure::Connect),
            Err(_) => Err(Failure::Connect("operation timed out".into())),
        }
    }
}

async fn handshake(stream: impl Read + Write + Unpin + Send + 'static) -> hyper::Result<Sender> {
    let (sender, connection) = Builder::new().max_buf_size(BUFFER).handshake(stream).await?;
    // It ends with its sender or its server; whoever waits for an answer is told then.
    tokio::spawn(connection);
    Ok(sender)
}

/// Splits off where the request goes, and completes its head.
fn prepare(request: &mut Request<Full<Bytes>>) -> Result<Place, Failure> {
    let parts = std::mem::take(request.uri_mut()).into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(Failure::Request("its URL names no host"));
    };
    if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
        return Err(Failure::Request("its scheme is neither http nor https"));
    }
    let default_port = if scheme == Scheme::HTTPS { 443 } else { 80 };
    let host = match authority.port_u16().filter(|&port| port != default_port) {
        Some(port) => HeaderValue::try_from(format!("{}:{port}", authority.host())),
        None => HeaderValue::try_from(authority.host()),
    };
    let headers = request.headers_mut();
    headers
        .insert(header::HOST, host.map_err(|_| Failure::Request("its host has a character that no header can hold"))?);
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("granary/", env!("CARGO_PKG_VERSION"))));
    *request.uri_mut() = parts.path_and_query.map(Uri::from).unwrap_or_default();
    Ok(Place { scheme, authority })
}

/// A connection that is busy with an answer.
#[derive(Debug)]
struct Connection {
    place: Place,
    sender: Sender,
    pool: Arc<Pool>,
}

impl Connection {
    fn rest(self) {
        self.pool.put(self.place, self.sender);
    }
}

/// The body of an answer. The connection is kept if it is read to its end.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    connection: Option<Connection>,
    silence: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Body {
    fn new(incoming: Incoming, connection: Connection) -> Self {
        let mut body = Self { incoming, connection: Some(connection), silence: None, waits: false };
        if body.incoming.is_end_stream() {
            body.rest();
        }
        body
    }

    fn rest(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.rest();
        }
    }

    /// The next bytes, as they came off the connection. `None` when the server has said that there are no more.
    pub(crate) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waits = false;
                    // Else it is a trailer.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(Failure::Broken(error)))),
                Poll::Ready(None) => {
                    self.rest();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
                    if !std::mem::replace(&mut self.waits, true) {
                        silence.as_mut().reset(Instant::now() + SILENCE);
                    }
                    return silence.as_mut().poll(context).map(|()| Some(Err(Failure::Silence)));
                }
            }
        }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await.transpose()
    }
}
