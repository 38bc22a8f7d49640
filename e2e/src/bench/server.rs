//! An S3 server that is not what is measured: objects are made of one random buffer in memory and sent without a copy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;

use super::load::Load;

/// The buffer that all content is taken from: longer than any processor's cache.
const PATTERN_BYTES: usize = 64 << 20;
/// How much is handed to the socket at a time.
const CHUNK_BYTES: usize = 1 << 20;
const PAGE: usize = 1000;

/// The running server; it ends with the process.
pub(super) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Keys in byte order, with sizes.
    objects: Vec<(String, u64)>,
    pattern: Bytes,
    requests: AtomicU64,
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        let mut pattern = vec![0; PATTERN_BYTES];
        StdRng::seed_from_u64(7).fill_bytes(&mut pattern);
        let mut objects: Vec<(String, u64)> = [Load::Big, Load::Small]
            .into_iter()
            .flat_map(|load| {
                load.objects().into_iter().map(move |(key, size)| (format!("{}/{key}", load.prefix()), size))
            })
            .collect();
        objects.sort();
        let shared = Arc::new(Shared { objects, pattern: pattern.into(), requests: AtomicU64::new(0) });
        let app = Router::new()
            .route("/bench", axum::routing::any(bucket))
            .route("/bench/", axum::routing::any(bucket))
            .route("/bench/{*key}", axum::routing::any(object))
            .with_state(shared.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).context("listening")?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || runtime.block_on(async move { axum::serve(listener, app).await }));
        Ok(Self { address, shared })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Requests answered so far.
    pub(super) fn requests(&self) -> u64 {
        self.shared.requests.load(Relaxed)
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    delimiter: String,
    #[serde(rename = "continuation-token", default)]
    token: String,
    #[serde(default)]
    marker: String,
    #[serde(rename = "max-keys")]
    max_keys: Option<usize>,
    location: Option<String>,
}

/// ListObjectsV2, and as much of V1 as peers use.
async fn bucket(State(shared): State<Arc<Shared>>, method: Method, Query(list): Query<List>) -> Response {
    shared.requests.fetch_add(1, Relaxed);
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    if list.location.is_some() {
        return xml("<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>".into());
    }
    let after = if list.token.is_empty() { &list.marker } else { &list.token };
    let limit = list.max_keys.unwrap_or(PAGE).min(PAGE);
    let (mut contents, mut prefixes) = (String::new(), Vec::<&str>::new());
    let (mut count, mut last, mut truncated) = (0, "", false);
    for (key, size) in &shared.objects {
        if !key.starts_with(&list.prefix)
            || key.as_str() <= after.as_str()
            || (after.ends_with('/') && key.starts_with(after))
        {
            continue;
        }
        let rest = &key[list.prefix.len()..];
        let folder =
            if list.delimiter == "/" { rest.find('/').map(|at| &key[..list.prefix.len() + at + 1]) } else { None };
        if folder.is_some() && folder == prefixes.last().copied() {
            continue;
        }
        if count == limit {
            truncated = true;
            break;
        }
        count += 1;
        if let Some(folder) = folder {
            prefixes.push(folder);
            last = folder;
        } else {
            contents += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{}&quot;</ETag>\
                 <Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                etag(key)
            );
            last = key;
        }
    }
    let prefixes: String =
        prefixes.iter().map(|p| format!("<CommonPrefixes><Prefix>{p}</Prefix></CommonPrefixes>")).collect();
    let next = match truncated {
        true => format!("<NextContinuationToken>{last}</NextContinuationToken><NextMarker>{last}</NextMarker>"),
        false => String::new(),
    };
    xml(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bench</Name>\
         <Prefix>{}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{limit}</MaxKeys><IsTruncated>{truncated}</IsTruncated>{next}{contents}{prefixes}\
         </ListBucketResult>",
        list.prefix
    ))
}

fn xml(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
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
    let size = shared.objects[index].1;
    let range = headers.get(header::RANGE).and_then(|value| parse_range(value.to_str().ok()?, size));
    let (start, end) = range.unwrap_or((0, size));
    let mut answer = Response::builder()
        .header(header::ETAG, format!("\"{}\"", etag(&key)))
        .header(header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, end - start);
    if range.is_some() {
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1));
    }
    let body = if method == Method::HEAD { Body::empty() } else { content(&shared.pattern, index, start, end) };
    answer.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The bytes `start..end` of an object: the pattern from an offset of its own, repeated.
fn content(pattern: &Bytes, index: usize, start: u64, end: u64) -> Body {
    let pattern = pattern.clone();
    let base = index as u64 * 4099;
    let chunks = std::iter::successors(Some(start), |at| Some(at + 1)).scan(start, move |at, _| {
        if *at >= end {
            return None;
        }
        let from = ((base + *at) % PATTERN_BYTES as u64) as usize;
        let len = CHUNK_BYTES.min(PATTERN_BYTES - from).min((end - *at) as usize);
        *at += len as u64;
        Some(Ok::<_, std::convert::Infallible>(pattern.slice(from..from + len)))
    });
    Body::from_stream(futures::stream::iter(chunks))
}

fn etag(key: &str) -> String {
    use sha2::Digest;
    hex::encode(&sha2::Sha256::digest(key)[..16])
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
}
