//! Where absent bytes come from.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use granary_image::Object;

/// The source of a blob's bytes.
///
/// Deadlines and retries are the origin's: a body that never ends keeps its readers waiting.
#[async_trait]
pub trait Origin: Send + Sync {
    /// Streams bytes `range` of `object`, exactly `range.end - range.start` of them, as they were when it was pinned. The
    /// cache checks the length once more and takes both a longer and a shorter body for an error.
    async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, OriginError>>, OriginError>;

    /// How often the source has asked for fewer requests so far, or did not answer in time: fewer are made at once then.
    fn slowdowns(&self) -> u64 {
        0
    }
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginErrorKind {
    /// The object is not what was pinned any more: these bytes will never be had again.
    Changed,
    /// The source cannot be read now.
    Unavailable,
    /// Bytes came that are not the object's: nothing of the answer may be used, and another one may be right.
    Wrong,
}

/// Why a source gave no bytes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OriginError {
    /// Whether asking again can help.
    pub kind: OriginErrorKind,
    /// A CamelCase word to count by, such as `ObjectChanged`; at most some tens of different ones.
    pub reason: String,
    /// What was attempted, what happened and what to do, without any credential.
    pub message: String,
}
