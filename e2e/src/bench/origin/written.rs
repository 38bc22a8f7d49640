//! Objects that a file system with a format of its own writes: what JuiceFS makes of the data.
//!
//! JuiceFS names a block's size in its key and compares a block with nothing that is kept elsewhere, so blocks need not be kept:
//! their content is the pattern's, as that of all other objects, and it comes from memory just as fast.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;

/// Longest object that is kept as it is.
const KEPT_BYTES: usize = 1 << 20;

/// Small objects as they were written.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<HashMap<String, Bytes>>);

impl Written {
    /// Takes an object.
    pub(super) async fn put(&self, key: &str, headers: &HeaderMap, body: Body) -> Result<()> {
        let mut stream = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            if block_size(key).is_none() {
                bytes.extend_from_slice(&chunk?);
                ensure!(bytes.len() <= KEPT_BYTES, "{key} is no block and longer than what is kept");
            }
        }
        if headers.contains_key("x-amz-decoded-content-length") {
            bytes = without_framing(&bytes);
        }
        if block_size(key).is_none() {
            self.0.lock().insert(key.to_owned(), bytes.into());
        }
        Ok(())
    }

    /// An object's size and what it begins with.
    pub(super) fn get(&self, key: &str) -> Option<(u64, Bytes)> {
        if let Some(size) = block_size(key) {
            return Some((size, Bytes::new()));
        }
        let bytes = self.0.lock().get(key)?.clone();
        Some((bytes.len() as u64, bytes))
    }

    /// Forgets an object.
    pub(super) fn delete(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

/// The size in a block's key: `NAME/chunks/0/0/12_0_4194304`.
fn block_size(key: &str) -> Option<u64> {
    let (dir, name) = key.rsplit_once('/')?;
    if !dir.contains("/chunks/") {
        return None;
    }
    name.rsplit_once('_')?.1.parse().ok()
}

/// The content of an `aws-chunked` body: lines with a length in hexadecimal digits, each before that many bytes.
fn without_framing(body: &[u8]) -> Vec<u8> {
    let (mut rest, mut content) = (body, Vec::new());
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let digits = rest[..end].split(|byte| *byte == b';').next().unwrap_or_default();
        let length = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(chunk) = length.filter(|n| *n > 0).and_then(|n| rest.get(end + 2..end + 2 + n)) else { break };
        content.extend_from_slice(chunk);
        rest = rest.get(end + 2 + chunk.len() + 2..).unwrap_or_default();
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_tell_their_size_and_others_do_not() {
        assert_eq!(block_size("big/chunks/0/1/1234_0_4194304"), Some(4_194_304));
        assert_eq!(block_size("big/juicefs_uuid"), None);
        assert_eq!(block_size("big/testing/a_b_77"), None);
    }

    #[test]
    fn a_framed_body_is_unwrapped() {
        let body = b"5;chunk-signature=ab\r\nhello\r\n3\r\nyou\r\n0;chunk-signature=cd\r\nx-amz-checksum:1\r\n\r\n";
        assert_eq!(without_framing(body), b"helloyou");
    }

    #[tokio::test]
    async fn what_is_no_block_is_kept() {
        let written = Written::default();
        written.put("a/uuid", &HeaderMap::new(), Body::from("id")).await.unwrap();
        written.put("a/chunks/0/0/1_0_77", &HeaderMap::new(), Body::from("x")).await.unwrap();
        assert_eq!(written.get("a/uuid"), Some((2, Bytes::from_static(b"id"))));
        assert_eq!(written.get("a/chunks/0/0/1_0_77").unwrap().0, 77);
        written.delete("a/uuid");
        assert_eq!(written.get("a/uuid"), None);
        assert!(written.put("a/long", &HeaderMap::new(), Body::from(vec![0; KEPT_BYTES + 1])).await.is_err());
    }
}
