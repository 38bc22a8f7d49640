//! Where a blob's absent bytes come from: the open sources of its versions.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use granary_blob::{Origin, OriginError, OriginErrorKind};
use granary_fetch::{
    Credentials as _, Identity, RetryPolicy, SecretKeys, SharedCredentials, Source, SourceConfig, SourceError,
    SourcePolicy, read_retrying,
};
use granary_image::{Object, SourceId};
use parking_lot::RwLock;
use tokio::sync::watch;

#[cfg(test)]
mod faults;

/// After a restart, the kubelet brings a Secret again within about a minute.
const SECRET_WAIT: Duration = Duration::from_secs(90);

/// The sources of one blob. Versions of a blob share their dataset's Secret.
pub(crate) struct BlobOrigin {
    sources: RwLock<HashMap<SourceId, Arc<Source>>>,
    credentials: Arc<SharedCredentials>,
    /// Whether somebody has brought the Secret since this process started.
    has_secret: watch::Sender<bool>,
    secret_wait: Duration,
    retries: RetryPolicy,
    /// What sources that were replaced had counted.
    replaced_slowdowns: AtomicU64,
}

impl Default for BlobOrigin {
    fn default() -> Self {
        Self {
            sources: RwLock::default(),
            credentials: Arc::default(),
            has_secret: watch::Sender::default(),
            secret_wait: SECRET_WAIT,
            retries: RetryPolicy::DEFAULT,
            replaced_slowdowns: AtomicU64::new(0),
        }
    }
}

impl BlobOrigin {
    /// Opens the sources of a version. One that is open already is replaced if its options are others by now; else it stays,
    /// with its connections and what its readers know of it.
    pub(crate) fn open_sources(&self, configs: &[SourceConfig], policy: &SourcePolicy) -> Result<(), SourceError> {
        let policy = Arc::new(policy.clone());
        let is_open = |config: &&SourceConfig| {
            self.sources.read().get(&config.id()).is_some_and(|source| source.is_as(config, &policy))
        };
        let opened = configs
            .iter()
            .filter(|config| !is_open(config))
            .map(|config| Ok((config.id(), Source::open(config, self.credentials.clone(), policy.clone())?)))
            .collect::<Result<Vec<_>, SourceError>>()?;
        let mut sources = self.sources.write();
        for (id, source) in opened {
            if let Some(replaced) = sources.insert(id, source) {
                self.replaced_slowdowns.fetch_add(replaced.slowdowns(), Relaxed);
            }
        }
        Ok(())
    }

    /// New keys, for this read on.
    pub(crate) fn set_secret(&self, secret: SecretKeys) {
        self.credentials.replace(secret);
        self.has_secret.send_replace(true);
    }

    /// Whether the keys are these.
    pub(crate) fn has(&self, secret: &SecretKeys) -> bool {
        *self.has_secret.borrow() && *self.credentials.current() == *secret
    }

    async fn source(&self, object: &Object) -> Result<Arc<Source>, OriginError> {
        let source = self.sources.read().get(&object.source).cloned();
        let source = source.ok_or_else(|| OriginError {
            kind: OriginErrorKind::Unavailable,
            reason: "SourceUnknown".to_owned(),
            message: format!("no version that is mounted here names the source {}", object.source),
        })?;
        if source.config().identity == Identity::Secret {
            let mut has_secret = self.has_secret.subscribe();
            let arrived = tokio::time::timeout(self.secret_wait, has_secret.wait_for(|has| *has)).await;
            // The sender is ours, so it cannot have gone.
            if !matches!(arrived, Ok(Ok(_))) {
                return Err(origin_error(SourceError::SecretNotFound { uri: source.config().uri.clone() }));
            }
        }
        Ok(source)
    }
}

#[async_trait]
impl Origin for BlobOrigin {
    async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, OriginError>>, OriginError> {
        let source = self.source(object).await?;
        let (key, pin) = (object.key.clone(), object.pin.clone());
        Ok(read_retrying(source, key, pin, object.size, range, self.retries).map_err(origin_error).boxed())
    }

    fn slowdowns(&self) -> u64 {
        let open: u64 = self.sources.read().values().map(|source| source.slowdowns()).sum();
        open + self.replaced_slowdowns.load(Relaxed)
    }
}

fn origin_error(error: SourceError) -> OriginError {
    let kind = match &error {
        error if error.is_changed() => OriginErrorKind::Changed,
        error if error.is_wrong() => OriginErrorKind::Wrong,
        _ => OriginErrorKind::Unavailable,
    };
    OriginError { kind, reason: error.reason().to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use granary_image::{Pin, PinKind};

    use super::*;

    fn object(config: &SourceConfig) -> Object {
        let pin = Pin { kind: PinKind::ETag, value: "\"1\"".into() };
        Object { source: config.id(), key: "a".into(), pin, size: 1 }
    }

    fn config(identity: Identity) -> SourceConfig {
        SourceConfig { uri: "s3://bucket/".into(), identity, ..SourceConfig::default() }
    }

    #[tokio::test]
    async fn an_unknown_source_is_an_error() {
        let error = BlobOrigin::default().source(&object(&config(Identity::Anonymous))).await.err().unwrap();
        assert_eq!((error.kind, error.reason.as_str()), (OriginErrorKind::Unavailable, "SourceUnknown"));
    }

    #[test]
    fn a_source_stays_open_unless_its_options_change() {
        let origin = BlobOrigin::default();
        let open = |config: &SourceConfig, policy: &SourcePolicy| {
            origin.open_sources(std::slice::from_ref(config), policy).unwrap();
            origin.sources.read()[&config.id()].clone()
        };
        let (config, policy) = (config(Identity::Anonymous), SourcePolicy::default());
        let first = open(&config, &policy);
        assert!(Arc::ptr_eq(&first, &open(&config, &policy)));
        let other = SourceConfig { identity: Identity::Secret, ..config.clone() };
        assert_eq!(other.id(), config.id());
        let second = open(&other, &policy);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &open(&other, &SourcePolicy { ambient: true, ..policy })));
    }

    #[tokio::test]
    async fn reads_wait_for_the_secret_if_they_need_one() {
        let origin = BlobOrigin::default();
        let (secret, anonymous) = (config(Identity::Secret), config(Identity::Anonymous));
        origin.open_sources(std::slice::from_ref(&anonymous), &SourcePolicy::default()).unwrap();
        assert!(origin.source(&object(&anonymous)).now_or_never().is_some());
        origin.open_sources(std::slice::from_ref(&secret), &SourcePolicy::default()).unwrap();
        let object = object(&secret);
        let mut waiting = Box::pin(origin.source(&object));
        assert!((&mut waiting).now_or_never().is_none());
        origin.set_secret(SecretKeys::default());
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn a_secret_that_does_not_come_in_time_is_an_error() {
        let origin = BlobOrigin { secret_wait: Duration::ZERO, ..BlobOrigin::default() };
        let config = config(Identity::Secret);
        origin.open_sources(std::slice::from_ref(&config), &SourcePolicy::default()).unwrap();
        assert_eq!(origin.source(&object(&config)).await.err().unwrap().reason, "SecretNotFound");
    }
}
