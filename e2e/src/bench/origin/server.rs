//! An S3 server that is not what is measured: objects are made of one random buffer in memory and sent without a copy.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::body::{Body, HttpBody};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::super::data::Dataset;
use super::Served;
use super::listing::{List, Listed, list};
use super::written::Written;

/// Path of the server's own statistics, which is no bucket's name.
pub(super) const STATISTICS: &str = "/-/served";
/// The buffer that all content is taken from: longer than any processor's cache.
const PATTERN_BYTES: usize = 64 << 20;
/// How much is handed to the socket at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What requests are answered from.
pub(super) struct Shared {
    /// Keys in byte order, with sizes.
    objects: Vec<Listed>,
    /// What the model begins with.
    head: Bytes,
    pattern: Bytes,
    /// What a file system of its own format has written.
    written: Written,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(datasets: &[Dataset]) -> Self {
        let mut pattern = vec![0; PATTERN_BYTES];
        StdRng::seed_from_u64(7).fill_bytes(&mut pattern);
        let of = |dataset: Dataset| {
            dataset.objects().into_iter().map(move |(key, size)| (format!("{}/{key}", dataset.prefix()), size))
        };
        let mut objects: Vec<Listed> = datasets.iter().copied().flat_map(of).collect();
        objects.sort();
        Self {
            objects,
            head: Dataset::Model.head().into(),
            pattern: pattern.into(),
            written: Written::default(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(STATISTICS, any(statistics))
        .route("/bench", any(bucket))
        .route("/bench/", any(bucket))
        .route("/bench/{*key}", any(object))
        .route("/written", any(written_bucket))
        .route("/written/", any(written_bucket))
        .route("/written/{*key}", any(written_object))
        .with_state(shared)
}

async fn statistics(State(shared): State<Arc<Shared>>) -> Json<Served> {
    Json(Served { requests: shared.requests.load(Relaxed), bytes: shared.bytes.load(Relaxed) })
}

async fn bucket(State(shared): State<Arc<Shared>>, method: Method, Query(query): Query<List>) -> Response {
    shared.requests.fetch_add(1, Relaxed);
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    ([(header::CONTENT_TYPE, "application/xml")], list(&shared.objects, &query, etag)).into_response()
}

async fn object(
    State(shared): State<Arc<Shared>>,
    method: Method,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Response {
    shared.requests.fetch_add(1, Relaxed);
    let Ok(index) = shared.objects.binary_search_by(|(k, _)| k.as_str().cmp(&key)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let head = if key.ends_with(".safetensors") { shared.head.clone() } else { Bytes::new() };
    let content = Content { head, base: index as u64 * 4099, at: 0, end: shared.objects[index].1, shared };
    answer(&method, &headers, &key, content)
}

/// Answers a GET or HEAD for `content`, whose range is the whole object.
fn answer(method: &Method, headers: &HeaderMap, key: &str, mut content: Content) -> Response {
    let size = content.end;
    let range = headers.get(header::RANGE).and_then(|value| parse_range(value.to_str().ok()?, size));
    (content.at, content.end) = range.unwrap_or((0, size));
    let mut answer = Response::builder()
        .header(header::ETAG, format!("\"{}\"", etag(key)))
        .header(header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, content.end - content.at);
    if let Some((start, end)) = range {
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1));
    }
    let body = if method == Method::HEAD { Body::empty() } else { Body::new(content) };
    answer.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn written_bucket(State(shared): State<Arc<Shared>>, method: Method, Query(query): Query<List>) -> Response {
    shared.requests.fetch_add(1, Relaxed);
    if matches!(method, Method::HEAD | Method::PUT) {
        return StatusCode::OK.into_response();
    }
    ([(header::CONTENT_TYPE, "application/xml")], list(&[], &query, etag)).into_response()
}

async fn written_object(State(shared): State<Arc<Shared>>, Path(key): Path<String>, request: Request) -> Response {
    shared.requests.fetch_add(1, Relaxed);
    let (parts, body) = request.into_parts();
    match parts.method {
        Method::PUT => match shared.written.put(&key, &parts.headers, body).await {
            Ok(()) => ([(header::ETAG, format!("\"{}\"", etag(&key)))], "").into_response(),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        },
        Method::DELETE => {
            shared.written.delete(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        method => match shared.written.get(&key) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some((size, head)) => {
                let content = Content { shared: shared.clone(), head, base: 0, at: 0, end: size };
                answer(&method, &parts.headers, &key, content)
            }
        },
    }
}

/// The bytes `at..end` of an object: its head, then the pattern from an offset of its own, repeated.
struct Content {
    shared: Arc<Shared>,
    head: Bytes,
    base: u64,
    at: u64,
    end: u64,
}

impl Content {
    fn next(&mut self) -> Option<Bytes> {
        if self.at >= self.end {
            return None;
        }
        let left = (self.end - self.at).min(CHUNK_BYTES as u64) as usize;
        let head = self.head.len() as u64;
        let chunk = if self.at < head {
            let from = self.at as usize;
            self.head.slice(from..(from + left).min(self.head.len()))
        } else {
            let from = ((self.base + self.at) % PATTERN_BYTES as u64) as usize;
            self.shared.pattern.slice(from..from + left.min(PATTERN_BYTES - from))
        };
        self.at += chunk.len() as u64;
        self.shared.bytes.fetch_add(chunk.len() as u64, Relaxed);
        Some(chunk)
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.next().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

/// As that of an object that was uploaded in parts: of the plain form clients take it for the content's MD5 and compare it.
fn etag(key: &str) -> String {
    use sha2::Digest;
    hex::encode(&sha2::Sha256::digest(key)[..16]) + "-256"
}

fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let end = end.parse().map_or(size, |last: u64| (last + 1).min(size));
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_object_ends() {
        assert_eq!(parse_range("bytes=0-9", 100), Some((0, 10)));
        assert_eq!(parse_range("bytes=90-", 100), Some((90, 100)));
        assert_eq!(parse_range("bytes=90-1000", 100), Some((90, 100)));
        assert_eq!(parse_range("bytes=100-", 100), None);
    }

    #[test]
    fn a_content_is_the_same_however_it_is_cut() {
        let shared = Arc::new(Shared::new(&[]));
        let read = |at: u64, end: u64| {
            let head = Bytes::from_static(b"a model begins so");
            let mut content = Content { shared: shared.clone(), head, base: PATTERN_BYTES as u64 - 100, at, end };
            std::iter::from_fn(|| content.next()).flat_map(Vec::from).collect::<Vec<u8>>()
        };
        let whole = read(0, 3 << 20);
        assert_eq!(whole.len(), 3 << 20);
        for (start, end) in [(0, 5), (3, 300), (90, 2 << 20)] {
            assert_eq!(read(start, end), whole[start as usize..end as usize], "{start}..{end}");
        }
        assert_eq!(shared.bytes.load(Relaxed), (3 << 20) + 5 + 297 + (2 << 20) - 90);
    }
}
