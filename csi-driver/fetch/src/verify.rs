//! Reads whose answers are compared with what was asked for. Some servers ignore conditions or ranges, and some sit behind a
//! proxy that does: what they send is never taken for the object.

use std::{
    ops::Range,
    pin::Pin as Pinned,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use granary_image::{Pin, PinKind};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;

use crate::{ByteStream, SourceError, checksum::Checksum, client::Body, refusal::refusal, transport::Transport};

/// What a read wants.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: String,
    pub(crate) pin: Pin,
    /// Of the whole object.
    pub(crate) size: u64,
    pub(crate) range: Range<u64>,
}

impl Wanted {
    /// The value of the `Range` header.
    pub(crate) fn range_header(&self) -> String {
        format!("bytes={}-{}", self.range.start, self.range.end - 1)
    }

    /// Whether it is all of the object.
    pub(crate) fn is_whole(&self) -> bool {
        self.range == (0..self.size)
    }

    /// Sends a request that was made for this and gives its body once the answer's head is as it must be.
    pub(crate) async fn fetch(
        self,
        transport: &Transport,
        request: http::Request<Bytes>,
    ) -> Result<ByteStream, SourceError> {
        let uri = transport.uri();
        let response = transport.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(transport, Some(&self.key), response).await);
        }
        self.check(uri, response.status(), response.headers())?;
        let left = self.range.end - self.range.start;
        let checksum = if self.is_whole() { Checksum::stated(response.headers()) } else { None };
        let body = response.into_body();
        Ok(Verified { body, left, checksum, wanted: self, transport: transport.clone() }.boxed())
    }

    fn check(&self, uri: &str, status: StatusCode, headers: &HeaderMap) -> Result<(), SourceError> {
        self.check_pin(uri, headers)?;
        let length = self.range.end - self.range.start;
        match status {
            StatusCode::PARTIAL_CONTENT => {
                let text = text(headers, header::CONTENT_RANGE.as_str()).unwrap_or_default();
                let Some((start, end, total)) = parse_content_range(text) else {
                    return Err(self.bad(uri, format!("it has no usable Content-Range, but '{}'", text.escape_debug())));
                };
                if total != self.size {
                    return Err(self.changed(uri, format!("it has {total} bytes, not {}", self.size)));
                }
                if (start, end) != (self.range.start, self.range.end - 1) {
                    return Err(self.bad(uri, format!("asked for {}, it gave '{text}'", self.range_header())));
                }
            }
            StatusCode::OK if self.is_whole() => {}
            _ => {
                return Err(self.bad(
                    uri,
                    format!("asked for {}, it ignored the range (HTTP {})", self.range_header(), status.as_u16()),
                ));
            }
        }
        match text(headers, header::CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok()) {
            Some(other) if other != length && status == StatusCode::OK => {
                Err(self.changed(uri, format!("it has {other} bytes, not {}", self.size)))
            }
            Some(other) if other != length => Err(self.bad(uri, format!("its body has {other} bytes, not {length}"))),
            _ => Ok(()),
        }
    }

    fn check_pin(&self, uri: &str, headers: &HeaderMap) -> Result<(), SourceError> {
        let pinned = self.pin.value.as_str();
        match self.pin.kind {
            PinKind::ETag => match text(headers, header::ETAG.as_str()) {
                Some(etag) if unquoted(etag) == unquoted(pinned) => Ok(()),
                Some(etag) => {
                    Err(self.changed(uri, format!("its entity tag is {}, not {pinned}", etag.escape_debug())))
                }
                None => Err(self.bad(uri, "it has no entity tag".to_owned())),
            },
            PinKind::VersionId => match text(headers, "x-amz-version-id") {
                Some(version) if version == pinned => Ok(()),
                Some(_) => Err(self.bad(uri, format!("it is not version '{pinned}'"))),
                None => Err(self.bad(uri, "it has no version id".to_owned())),
            },
            PinKind::ModificationTime => match last_modified(headers) {
                Some(time) if time.to_string() == pinned => Ok(()),
                Some(time) => Err(self.changed(uri, format!("it was modified at {time}, not at {pinned}"))),
                None => Err(self.bad(uri, "it has no Last-Modified".to_owned())),
            },
            PinKind::SizeOnly => Ok(()),
        }
    }

    fn bad(&self, uri: &str, detail: String) -> SourceError {
        SourceError::BadAnswer { uri: uri.to_owned(), key: self.key.clone(), detail }
    }

    pub(crate) fn changed(&self, uri: &str, detail: String) -> SourceError {
        SourceError::ObjectChanged { uri: uri.to_owned(), key: self.key.clone(), detail }
    }
}

/// The body, chunk by chunk as it arrives. It is not over before the server has said so, since only then is it known not to be
/// longer, and the connection can be used again.
struct Verified {
    body: Body,
    left: u64,
    /// What the bytes have to have; taken when it was compared.
    checksum: Option<Checksum>,
    wanted: Wanted,
    transport: Transport,
}

impl Stream for Verified {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            return Poll::Ready(match ready!(this.body.poll_chunk(context)) {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) if chunk.len() as u64 > this.left => {
                    Some(Err(this.wanted.bad(this.transport.uri(), "its body is longer than asked for".to_owned())))
                }
                Some(Ok(chunk)) => {
                    this.left -= chunk.len() as u64;
                    Some(this.summed(&chunk).map(|()| chunk))
                }
                Some(Err(failure)) => Some(Err(this.transport.failure(failure))),
                None if this.left == 0 => None,
                None => Some(Err(this.transport.unavailable(format!("the body ended {} bytes early", this.left)))),
            });
        }
    }
}

impl Verified {
    /// Takes a chunk into the checksum. What ends in another one than it should is not given out to its end.
    fn summed(&mut self, chunk: &[u8]) -> Result<(), SourceError> {
        let Some(checksum) = &mut self.checksum else { return Ok(()) };
        checksum.update(chunk);
        if self.left > 0 {
            return Ok(());
        }
        let compared = self.checksum.take().map_or(Ok(()), Checksum::compare);
        compared.map_err(|detail| SourceError::ChecksumMismatch {
            uri: self.transport.uri().to_owned(),
            key: self.wanted.key.clone(),
            detail,
        })
    }
}

/// Adds the condition for a pin that HTTP itself knows.
pub(crate) fn condition(headers: &mut HeaderMap, pin: &Pin) {
    match pin.kind {
        PinKind::ETag => {
            let value = if pin.value.starts_with('"') { pin.value.clone() } else { format!("\"{}\"", pin.value) };
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(header::IF_MATCH, value);
            }
        }
        // Not If-Unmodified-Since: it would let an older object pass, which a mirror may put in place.
        // The answer's Last-Modified is compared instead.
        PinKind::ModificationTime | PinKind::SizeOnly | PinKind::VersionId => {}
    }
}

/// The time of the last change, if the answer tells it.
pub(crate) fn last_modified(headers: &HeaderMap) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::parse(text(headers, header::LAST_MODIFIED.as_str())?).ok()?;
    Some(time.timestamp())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Some services list a tag without its quotes.
fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

fn parse_content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kind: PinKind, value: &str, range: Range<u64>) -> Wanted {
        Wanted { key: "k".to_owned(), pin: Pin { kind, value: value.to_owned() }, size: 100, range }
    }

    fn outcome(wanted: &Wanted, status: u16, headers: &[(&'static str, &str)]) -> &'static str {
        let headers = headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let status = StatusCode::from_u16(status).unwrap();
        wanted.check("s3://b/", status, &headers).err().map_or("ok", |error| error.reason())
    }

    #[test]
    fn an_answer_is_what_was_asked_for_or_an_error() {
        let part = wanted(PinKind::ETag, "\"e\"", 10..20);
        let tag = ("etag", "\"e\"");
        let range = ("content-range", "bytes 10-19/100");
        for (status, headers, expected) in [
            (206, &[tag, range, ("content-length", "10")][..], "ok"),
            (206, &[("etag", "e"), range], "ok"),
            (206, &[range], "BadAnswer"),
            (206, &[("etag", "\"f\""), range], "ObjectChanged"),
            (206, &[("etag", "W/\"e\""), range], "ObjectChanged"),
            (206, &[tag], "BadAnswer"),
            (206, &[tag, ("content-range", "bytes 10-19/*")], "BadAnswer"),
            (206, &[tag, ("content-range", "bytes 0-9/100")], "BadAnswer"),
            (206, &[tag, ("content-range", "bytes 10-18/100")], "BadAnswer"),
            (206, &[tag, ("content-range", "bytes 10-19/101")], "ObjectChanged"),
            (206, &[tag, range, ("content-length", "11")], "BadAnswer"),
            (200, &[tag, ("content-length", "100")], "BadAnswer"),
            (204, &[tag, range], "BadAnswer"),
        ] {
            assert_eq!(outcome(&part, status, headers), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn a_whole_object_may_come_without_a_range() {
        let whole = wanted(PinKind::SizeOnly, "", 0..100);
        assert_eq!(outcome(&whole, 200, &[("content-length", "100")]), "ok");
        assert_eq!(outcome(&whole, 200, &[]), "ok");
        assert_eq!(outcome(&whole, 200, &[("content-length", "99")]), "ObjectChanged");
        assert_eq!(outcome(&whole, 206, &[("content-range", "bytes 0-99/100")]), "ok");
    }

    #[test]
    fn other_pins_are_compared_too() {
        let range = ("content-range", "bytes 10-19/100");
        let version = wanted(PinKind::VersionId, "v1", 10..20);
        assert_eq!(outcome(&version, 206, &[("x-amz-version-id", "v1"), range]), "ok");
        assert_eq!(outcome(&version, 206, &[("x-amz-version-id", "v2"), range]), "BadAnswer");
        assert_eq!(outcome(&version, 206, &[range]), "BadAnswer");
        let time = wanted(PinKind::ModificationTime, "2024-05-01T10:00:00Z", 10..20);
        assert_eq!(outcome(&time, 206, &[("last-modified", "Wed, 01 May 2024 10:00:00 GMT"), range]), "ok");
        assert_eq!(outcome(&time, 206, &[("last-modified", "Wed, 01 May 2024 09:59:59 GMT"), range]), "ObjectChanged");
        assert_eq!(outcome(&time, 206, &[range]), "BadAnswer");
    }
}
