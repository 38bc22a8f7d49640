//! A source that is open: what the rest of Granary uses.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use granary_image::Pin;

use crate::{
    Credentials, Identity, SourceConfig, SourceError, SourcePolicy, file::FileSource, glob::KeyFilter, health::Health,
    http::HttpSource, s3::S3Source, slowdowns::Slowdowns, uri::Location, verify::Wanted,
};

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
    filter: KeyFilter,
    object_name: Option<String>,
    backend: Backend,
    policy: Arc<SourcePolicy>,
    health: Arc<Health>,
}

enum Backend {
    S3(Box<S3Source>),
    Http(Box<HttpSource>),
    File(FileSource),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Source {
    /// Checks the configuration against the policy. A missing key is found at the first request, since a Secret can come later.
    pub fn open(
        config: &SourceConfig,
        credentials: Arc<dyn Credentials>,
        policy: Arc<SourcePolicy>,
    ) -> Result<Arc<Self>, SourceError> {
        let location = Location::parse(&config.uri)?;
        if config.identity == Identity::Ambient && !policy.ambient {
            return Err(SourceError::denied(
                &config.uri,
                "identity: Ambient needs sourcePolicy.ambientIdentity: Allow in the DataStorageClass; or put keys into a Secret",
            ));
        }
        let filter = KeyFilter::new(config)?;
        let object_name = location.object_name();
        let slowdowns = Slowdowns::default();
        let backend = match location {
            Location::S3 { bucket, place } => {
                let policy = policy.clone();
                Backend::S3(S3Source::open(config, bucket, place, credentials, policy, slowdowns.clone())?.into())
            }
            Location::Http { url, directory } => {
                let policy = policy.clone();
                Backend::Http(HttpSource::open(config, url, directory, credentials, policy, slowdowns.clone())?.into())
            }
            Location::File { path } => Backend::File(FileSource::open(&config.uri, &path, &policy)?),
        };
        let health = Arc::new(Health::new(&config.uri, slowdowns));
        Ok(Arc::new(Self { config: config.clone(), filter, object_name, backend, policy, health }))
    }

    /// What it was opened with.
    pub fn config(&self) -> &SourceConfig {
        &self.config
    }

    /// Whether opening a source with these would give one that does the same.
    pub fn is_as(&self, config: &SourceConfig, policy: &SourcePolicy) -> bool {
        self.config == *config && *self.policy == *policy
    }

    /// How many answers since it was opened said that it gets too many requests, or did not come in time: HTTP 429, 503 and
    /// 504, S3's `SlowDown`, and timeouts, those of [`read_retrying`](crate::read_retrying) included.
    pub fn slowdowns(&self) -> u64 {
        self.health.slowdowns()
    }

    pub(crate) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The file name for the key "", when the URI names an object itself: the last part of the URI.
    pub fn object_name(&self) -> Option<&str> {
        self.object_name.as_deref()
    }

    /// All objects that `include` and `exclude` let through, in the source's order, with constant memory. Keys are raw: they
    /// may be no file names. Ends after the first error.
    pub fn list(&self) -> BoxStream<'_, Result<Listed, SourceError>> {
        let all = match &self.backend {
            Backend::S3(s3) => s3.list(),
            Backend::Http(http) => http.list().boxed(),
            Backend::File(file) => file.list().boxed(),
        };
        all.try_filter(|listed| futures::future::ready(self.filter.lets_through(self.name_of(&listed.key)))).boxed()
    }

    /// Bytes `range` of the object `key`, if it still is what `pin` and `size` say. The stream yields exactly
    /// `range.end - range.start` bytes or ends with an error. Nothing is tried twice: see [`read_retrying`](crate::read_retrying).
    pub async fn read(&self, key: &str, pin: &Pin, size: u64, range: Range<u64>) -> Result<ByteStream, SourceError> {
        if range.end > size || range.start > range.end {
            return Err(SourceError::invalid(
                &self.config.uri,
                format!("there are no bytes {}..{} in an object of {size}", range.start, range.end),
            ));
        }
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let wanted = Wanted { key: key.to_owned(), pin: pin.clone(), size, range };
        match &self.backend {
            Backend::S3(s3) => s3.read(wanted).await,
            Backend::Http(http) => http.read(wanted).await,
            Backend::File(file) => file.read(wanted).await,
        }
    }

    fn name_of<'a>(&'a self, key: &'a str) -> &'a str {
        if key.is_empty() { self.object_name.as_deref().unwrap_or_default() } else { key }
    }
}
