//! The source's process: an HTTP server on loopback.

use std::collections::HashMap;
use std::io;
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::origin::{Fault, Trouble, etag_of};

/// How much is handed to a connection at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// What a slow answer waits before each chunk.
const SLOW: Duration = Duration::from_millis(2);
/// What a stalled answer waits before it begins.
const STALL: Duration = Duration::from_millis(300);

/// Arguments of the process.
#[derive(Debug, clap::Args)]
pub struct OriginArguments {
    /// Its objects, each in the directory of its dataset.
    objects: PathBuf,
}

/// Serves until standard input ends: what the process does.
pub fn serve(arguments: &OriginArguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let shared = Arc::new(Shared { objects: arguments.objects.clone(), wrong: Mutex::default() });
    let app = Router::new().route("/{dataset}/{key}", get(object)).with_state(shared.clone());
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("listening for requests to the source")?;
    println!("{}", listener.local_addr()?);
    runtime.spawn(async move { axum::serve(listener, app).await });
    for line in io::stdin().lock().lines() {
        let line = line?;
        shared.take_in(serde_json::from_str(&line).context("reading what is wrong")?);
        println!("{line}");
    }
    Ok(())
}

/// What is wrong with one dataset's objects.
#[derive(Clone, Copy, Default)]
struct Wrong {
    passing: Option<(Fault, u32)>,
    lasting: Option<Fault>,
}

struct Shared {
    objects: PathBuf,
    wrong: Mutex<HashMap<String, Wrong>>,
}

impl Shared {
    fn take_in(&self, trouble: Trouble) {
        let mut wrong = self.wrong.lock();
        match trouble {
            Trouble::Passing(dataset, fault, requests) => {
                wrong.entry(dataset).or_default().passing = Some((fault, requests));
            }
            Trouble::Lasting(dataset, fault) => wrong.entry(dataset).or_default().lasting = Some(fault),
            Trouble::None(dataset) => _ = wrong.remove(&dataset),
        }
    }

    /// The fault that a request meets.
    fn fault(&self, dataset: &str) -> Option<Fault> {
        let mut wrong = self.wrong.lock();
        let wrong = wrong.get_mut(dataset)?;
        match &mut wrong.passing {
            Some((fault, left)) if *left > 0 => {
                *left -= 1;
                Some(*fault)
            }
            _ => wrong.lasting,
        }
    }
}

async fn object(
    State(shared): State<Arc<Shared>>,
    Path((dataset, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let fault = shared.fault(&dataset);
    let bytes = tokio::fs::read(shared.objects.join(&dataset).join(&key)).await.ok().map(Bytes::from);
    let Some(bytes) = bytes.filter(|_| fault != Some(Fault::Gone)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = etag_of(&dataset, &key, bytes.len() as u64);
    let condition = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    if fault == Some(Fault::Changed) || condition.is_some_and(|wanted| wanted != etag) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    if let Some(Fault::Status(status)) = fault {
        return StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
    }
    if fault == Some(Fault::Stall) {
        tokio::time::sleep(STALL).await;
    }
    let range = headers.get(header::RANGE).and_then(|value| parse_range(value.to_str().ok()?, bytes.len()));
    let (start, end) = range.unwrap_or((0, bytes.len()));
    let mut answer = Response::builder()
        .header(header::ETAG, &etag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, end - start);
    if range.is_some() {
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", end - 1, bytes.len()));
    }
    let body = body(bytes.slice(start..end), fault);
    answer.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn body(bytes: Bytes, fault: Option<Fault>) -> Body {
    let sent = if fault == Some(Fault::Reset) { bytes.len() / 2 } else { bytes.len() };
    let mut chunks: Vec<io::Result<Bytes>> =
        (0..sent).step_by(CHUNK_BYTES).map(|at| Ok(bytes.slice(at..sent.min(at + CHUNK_BYTES)))).collect();
    if sent < bytes.len() {
        chunks.push(Err(io::ErrorKind::ConnectionReset.into()));
    }
    let wait = if fault == Some(Fault::Slow) { SLOW } else { Duration::ZERO };
    Body::from_stream(stream::iter(chunks).then(move |chunk| async move {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        chunk
    }))
}

fn parse_range(text: &str, size: usize) -> Option<(usize, usize)> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = (start.parse().ok()?, last.parse::<usize>().ok()?.checked_add(1)?.min(size));
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_pass_and_last_and_end() {
        let shared = Shared { objects: PathBuf::new(), wrong: Mutex::default() };
        assert_eq!(shared.fault("a"), None);
        shared.take_in(Trouble::Passing("a".to_owned(), Fault::Reset, 2));
        shared.take_in(Trouble::Lasting("a".to_owned(), Fault::Gone));
        let met: Vec<_> = (0..3).map(|_| shared.fault("a")).collect();
        assert_eq!(met, [Some(Fault::Reset), Some(Fault::Reset), Some(Fault::Gone)]);
        assert_eq!(shared.fault("b"), None);
        shared.take_in(Trouble::None("a".to_owned()));
        assert_eq!(shared.fault("a"), None);
    }

    #[test]
    fn ranges_end_where_the_object_ends() {
        assert_eq!(parse_range("bytes=0-9", 100), Some((0, 10)));
        assert_eq!(parse_range("bytes=90-1000", 100), Some((90, 100)));
        assert_eq!(parse_range("bytes=100-200", 100), None);
        assert_eq!(parse_range("bytes=9-", 100), None);
    }
}
