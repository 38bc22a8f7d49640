//! HTTP/1.1 by hand, so that it can be broken.

use std::collections::BTreeMap;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// Decoded, without the leading '/'.
    pub path: String,
    /// Decoded.
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// Whether it reads an object: neither a listing nor a question about one.
    pub fn is_read(&self) -> bool {
        self.method == "GET" && !self.is_listing()
    }

    /// Whether it is about many objects.
    pub fn is_listing(&self) -> bool {
        self.query.contains_key("list-type") || self.query.contains_key("versions")
    }
}

/// The next request of a connection; `None` at its end, or if it is no HTTP. Bodies are not expected.
pub(crate) async fn read_request(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Request> {
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
    let target = first.next()?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |text: &str| {
        text.split_once('=').map_or((decode(text), String::new()), |(name, value)| (decode(name), decode(value)))
    };
    let header = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Request {
        method,
        path: decode(path.strip_prefix('/')?),
        query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
        headers: lines[1..].iter().filter_map(header).collect(),
        target,
    })
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
