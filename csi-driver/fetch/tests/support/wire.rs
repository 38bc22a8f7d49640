//! HTTP/1.1 by hand, so that it can be broken.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::Notify,
};

use super::{State, answer::answer};

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Decoded, without the leading '/'.
    pub path: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What follows the head.
pub enum Body {
    Whole(Bytes),
    /// Ends without the rest that the head announced.
    Cut(Bytes),
    Chunked(Bytes),
    Halves(Bytes, Arc<Notify>),
}

pub enum Answer {
    Respond { status: u16, headers: Vec<(String, String)>, body: Body },
    Hang,
    Close,
}

pub async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let head_only = request.method == "HEAD";
        let answer = answer(&mut state.lock().unwrap(), request);
        let (status, headers, body) = match answer {
            Answer::Respond { status, headers, body } => (status, headers, body),
            Answer::Hang => std::future::pending().await,
            Answer::Close => return,
        };
        let mut head = format!("HTTP/1.1 {status} Status\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if !head_only && !write_body(&mut stream, body).await {
            return;
        }
        if stream.flush().await.is_err() {
            return;
        }
    }
}

/// Whether the connection can be used again.
async fn write_body(stream: &mut (impl AsyncWrite + Unpin), body: Body) -> bool {
    match body {
        Body::Whole(bytes) => stream.write_all(&bytes).await.is_ok(),
        Body::Cut(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            false
        }
        Body::Chunked(bytes) => {
            let mut text = Vec::new();
            for chunk in bytes.chunks(4) {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            stream.write_all(&text).await.is_ok()
        }
        Body::Halves(bytes, notify) => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            if stream.write_all(first).await.is_err() || stream.flush().await.is_err() {
                return false;
            }
            notify.notified().await;
            stream.write_all(second).await.is_ok()
        }
    }
}

async fn read_request(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ');
    let method = first.next()?.to_owned();
    let (path, query) = first.next().map(|target| target.split_once('?').unwrap_or((target, "")))?;
    let pair = |text: &str| {
        text.split_once('=').map_or((decode(text), String::new()), |(name, value)| (decode(name), decode(value)))
    };
    let header = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Request {
        method,
        path: decode(path.strip_prefix('/')?),
        query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
        headers: lines[1..].iter().filter_map(header).collect(),
    })
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
