//! An answer, and how much of it is told.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Chunks of a body that is sent in chunks.
const CHUNKS: usize = 8;

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Without those that tell the body's length.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) length: Length,
    pub(crate) course: Course,
}

/// How the length of the body is told.
pub(crate) enum Length {
    /// As so many bytes.
    Announced(usize),
    Chunked,
}

/// How the body goes out.
pub(crate) enum Course {
    Whole,
    /// So many bytes and no more.
    Part(usize, End),
    /// Half of it, the rest when this is notified.
    Halves(Arc<Notify>),
    /// Byte by byte.
    Drip(Duration),
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It takes the next request.
    Goes,
    /// It ends in order.
    Closes,
    Resets,
    /// It says nothing any more.
    Stalls,
}

impl Reply {
    /// An answer with all of its body.
    pub(crate) fn new(status: u16, headers: Vec<(String, String)>, body: Bytes) -> Self {
        let length = Length::Announced(body.len());
        Self { status, headers, body, length, course: Course::Whole }
    }

    /// A document as S3 gives it for an error.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>hunter2</Message></Error>");
        Self::document(status, xml)
    }

    pub(crate) fn document(status: u16, xml: String) -> Self {
        Self::new(status, vec![("Content-Type".to_owned(), "application/xml".to_owned())], xml.into())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Puts a header in the place of those of its name, or takes them away.
    pub(crate) fn set(&mut self, name: &str, value: Option<String>) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.extend(value.map(|value| (name.to_owned(), value)));
    }

    /// Writes it, without the body if only the head was asked for.
    pub(crate) async fn write(self, stream: &mut (impl AsyncWrite + Unpin), head_only: bool) -> io::Result<End> {
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match self.length {
            Length::Announced(length) => head += &format!("Content-Length: {length}\r\n\r\n"),
            Length::Chunked => head += "Transfer-Encoding: chunked\r\n\r\n",
        }
        stream.write_all(head.as_bytes()).await?;
        let end = if head_only { End::Goes } else { self.write_body(stream).await? };
        stream.flush().await?;
        Ok(end)
    }

    async fn write_body(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<End> {
        let Self { body, length, course, .. } = self;
        match (course, length) {
            (Course::Whole, Length::Chunked) => stream.write_all(&chunked(&body)).await?,
            (Course::Whole, Length::Announced(_)) => stream.write_all(&body).await?,
            (Course::Part(given, end), _) => {
                stream.write_all(&body[..given.min(body.len())]).await?;
                return Ok(end);
            }
            (Course::Halves(notify), _) => {
                let (first, second) = body.split_at(body.len() / 2);
                stream.write_all(first).await?;
                stream.flush().await?;
                notify.notified().await;
                stream.write_all(second).await?;
            }
            (Course::Drip(pause), _) => {
                for byte in &body {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    sleep(pause).await;
                }
            }
        }
        Ok(End::Goes)
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for chunk in body.chunks(body.len().div_ceil(CHUNKS).max(1)) {
        text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        text.extend_from_slice(chunk);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    text
}
