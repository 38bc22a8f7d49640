//! The real data plane.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use granary_crds::node_cache::{DatasetReport, Layout, MountLayout, PoolReport, ReadErrorReport, VersionReport};
use granary_crds::{DataStorageClass, MicroTime};
use granary_fetch::SecretKeys;
use granary_serve::{ArtifactStore, ServeError, Server};
use k8s_openapi::jiff::Timestamp;

use crate::manifest::{self, ManifestError};
use crate::mounter::{Content, MountError, MountReport, Mounter, Scrub, Secret, Traffic};

/// Mounts by a [`Server`].
pub struct ServerMounter {
    server: Arc<Server>,
    store: Arc<dyn ArtifactStore>,
    cache_root: PathBuf,
    file_roots: Vec<PathBuf>,
}

impl ServerMounter {
    /// Caches lie below `cache_root`, images come from `store`, `file://` sources lie below `file_roots`.
    pub fn new(
        server: Arc<Server>,
        store: Arc<dyn ArtifactStore>,
        cache_root: PathBuf,
        file_roots: Vec<PathBuf>,
    ) -> Self {
        Self { server, store, cache_root, file_roots }
    }
}

#[async_trait]
impl Mounter for ServerMounter {
    fn support(&self) -> Result<Layout, String> {
        match self.server.layout() {
            granary_serve::Layout::EROFSFile => Ok(Layout::EROFSFile),
            granary_serve::Layout::EROFSLoop => Ok(Layout::EROFSLoop),
            granary_serve::Layout::FUSE => Ok(Layout::FUSE),
            granary_serve::Layout::Unsupported(why) => Err(why),
        }
    }

    fn is_published(&self, target: &Path) -> bool {
        self.server.is_published(target)
    }

    async fn publish(&self, volume_id: &str, target: &Path, content: Content) -> Result<(), MountError> {
        self.configure(&content.class)?;
        let version = manifest::version(&content, &self.file_roots)?;
        let secret = keys(content.secret.unwrap_or_default());
        Ok(self.server.publish(volume_id, target, &version, secret, self.store.as_ref()).await?)
    }

    fn refresh_secret(&self, volume_id: &str, secret: Secret) {
        self.server.refresh_secret(volume_id, keys(secret));
    }

    async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<(), MountError> {
        Ok(self.server.unpublish(volume_id, target).await?)
    }

    fn configure(&self, class: &DataStorageClass) -> Result<(), MountError> {
        let pool = manifest::pool(class, &self.cache_root)?;
        make_between(&self.cache_root, &pool.dir).map_err(|error| MountError::Cache(error.to_string()))?;
        Ok(self.server.set_pool(class.metadata.name.as_deref().unwrap_or_default(), pool)?)
    }

    fn report(&self) -> MountReport {
        report(self.server.report())
    }
}

/// Makes the directories between the cache root and a cache, private as the cache itself. A root that is missing stays so: it may be a
/// disk that is not mounted.
fn make_between(root: &Path, cache: &Path) -> std::io::Result<()> {
    match cache.parent() {
        Some(parent) if parent != root && root.is_dir() => DirBuilder::new().recursive(true).mode(0o700).create(parent),
        _ => Ok(()),
    }
}

fn keys(secret: Secret) -> SecretKeys {
    SecretKeys::from(secret.0)
}

/// The same in the words of a NodeCache.
fn report(report: granary_serve::Report) -> MountReport {
    let pools = report.pools.into_iter().map(|(class_name, usage)| PoolReport {
        class_name,
        limit_bytes: Some(signed(usage.limit_bytes)),
        used_bytes: Some(signed(usage.used_bytes)),
        free_bytes: Some(signed(usage.free_bytes)),
    });
    let traffic = report.traffic;
    MountReport {
        pools: pools.collect(),
        datasets: report.datasets.into_iter().map(dataset).collect(),
        traffic: Traffic {
            hits: traffic.hits,
            misses: traffic.misses,
            source_bytes: traffic.source_bytes,
            source_requests: traffic.source_requests,
            served_bytes: traffic.served_bytes,
            prefetched_bytes: traffic.prefetched_bytes,
            prefetch_used_bytes: traffic.prefetch_used_bytes,
            uncached_bytes: traffic.uncached_bytes,
            failed_writes: traffic.failed_writes,
        },
        scrub: Scrub {
            checked_bytes: report.scrub.checked_bytes,
            passes: report.scrub.passes,
            damaged_parts: report.scrub.damaged_parts,
            repaired_parts: report.scrub.repaired_parts,
        },
    }
}

fn dataset(report: granary_serve::DatasetReport) -> DatasetReport {
    let versions = report.versions.into_iter().map(|version| VersionReport {
        name: version.version,
        pod_count: i32::try_from(version.targets).unwrap_or(i32::MAX),
        missing_bytes: None,
        layout: Some(layout(version.layout)),
    });
    let read_errors = report.read_errors.into_iter().map(|error| ReadErrorReport {
        reason: error.reason,
        count: signed(error.count),
        last_time: MicroTime(Timestamp::try_from(error.last).unwrap_or_default()),
    });
    DatasetReport {
        uid: report.tag.dataset_uid,
        namespace: report.tag.namespace,
        name: report.tag.name,
        cached_bytes: signed(report.cached_bytes),
        versions: versions.collect(),
        read_errors: read_errors.collect(),
    }
}

fn layout(layout: granary_serve::MountLayout) -> MountLayout {
    match layout {
        granary_serve::MountLayout::EROFSFile => MountLayout::EROFSFile,
        granary_serve::MountLayout::EROFSLoopNative => MountLayout::EROFSLoopNative,
        granary_serve::MountLayout::EROFSLoopFUSE => MountLayout::EROFSLoopFUSE,
        granary_serve::MountLayout::FUSE => MountLayout::FUSE,
    }
}

/// The API has no unsigned integers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl From<ManifestError> for MountError {
    fn from(error: ManifestError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<ServeError> for MountError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Unsupported(why) => Self::Unsupported(why),
            // The version, its artifacts or its sources are not to be mounted by this release, or not here.
            ServeError::Invalid { .. } | ServeError::Image(_) | ServeError::Table(_) | ServeError::Source(_) => {
                Self::Invalid(error.to_string())
            }
            ServeError::Artifact { .. } | ServeError::WrongDigest { .. } => Self::Artifact(error.to_string()),
            ServeError::UnknownPool(_) | ServeError::Pool(_) => Self::Cache(error.to_string()),
            // What is left is the node's own trouble; the enum may grow.
            _ => Self::Failed(error.to_string()),
        }
    }
}
