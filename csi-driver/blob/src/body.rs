//! An origin's answer, cut where parts end.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use granary_image::Part;

use crate::blob::Blob;
use crate::error::ReadError;
use crate::origin::{OriginError, OriginErrorKind};
use crate::share::Taken;

/// The answer to one request.
pub(crate) struct Body<'a> {
    stream: BoxStream<'static, Result<Bytes, OriginError>>,
    rest: Bytes,
    key: String,
    blob: &'a Blob,
    /// Bounds the memory of all answers that are under way on the node.
    _request: Taken,
}

impl<'a> Body<'a> {
    /// Asks the origin for `range` of the object that `part` is of.
    pub(crate) async fn open(blob: &'a Arc<Blob>, part: &Part, range: Range<u64>) -> Result<Self, ReadError> {
        let object = blob.object(part);
        let request = blob.requests.take(1).await;
        blob.counters.source_requests.fetch_add(1, Relaxed);
        let origin = blob.origin();
        let answer = origin.read(&object, range).await;
        blob.gate.slowdowns(origin.slowdowns());
        match answer {
            Ok(stream) => Ok(Self { stream, rest: Bytes::new(), key: object.key, blob, _request: request }),
            Err(error) => Err(failed(error, &object.key)),
        }
    }

    async fn more(&mut self) -> Result<bool, ReadError> {
        while self.rest.is_empty() {
            match self.stream.next().await {
                Some(bytes) => self.rest = bytes.map_err(|error| failed(error, &self.key))?,
                None => return Ok(false),
            }
            self.blob.counters.source_bytes.fetch_add(self.rest.len() as u64, Relaxed);
        }
        Ok(true)
    }

    /// The next bytes, at least one and at most `most`.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Bytes, ReadError> {
        if self.more().await? {
            Ok(self.rest.split_to(most.min(self.rest.len())))
        } else {
            Err(self.wrong_length("shorter"))
        }
    }

    /// Nothing may follow: a body of another length is not what was asked for.
    pub(crate) async fn end(&mut self) -> Result<(), ReadError> {
        if self.more().await? { Err(self.wrong_length("longer")) } else { Ok(()) }
    }

    fn wrong_length(&self, how: &str) -> ReadError {
        let error = OriginError {
            kind: OriginErrorKind::Unavailable,
            reason: "WrongLength".to_owned(),
            message: format!("the source's answer was {how} than what was asked for"),
        };
        failed(error, &self.key)
    }
}

fn failed(error: OriginError, key: &str) -> ReadError {
    ReadError::Origin { kind: error.kind, reason: error.reason, key: key.to_owned(), message: error.message }
}
