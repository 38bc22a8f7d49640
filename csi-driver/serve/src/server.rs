//! The server: what is published, and the operations on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use granary_blob::PoolConfig;
use granary_fetch::SecretKeys;

use crate::{ArtifactStore, Layout, Report, ServeError, VersionManifest};

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The server's own directory: manifests, images and private mount points. It is made with mode 0700 if the one above it
    /// exists. To survive a container, it must lie on a mount that is shared with the host.
    pub state_dir: PathBuf,
    /// Pools by the name of their class; those that a predecessor had are remembered.
    pub pools: BTreeMap<String, PoolConfig>,
}

/// Mounts versions at targets. Every operation may be called again, at the same time, and after a crash.
pub struct Server {
    config: ServerConfig,
}

impl Server {
    /// Finds out what the kernel can, and adopts or releases what a predecessor left. Must be called in a tokio runtime.
    pub async fn start(config: ServerConfig) -> Result<Arc<Self>, ServeError> {
        Ok(Arc::new(Self { config }))
    }

    /// What this kernel can do.
    pub fn layout(&self) -> Layout {
        unimplemented!()
    }

    /// Opens the pool of a class, or gives an open one new limits.
    pub fn set_pool(&self, name: &str, config: PoolConfig) -> Result<(), ServeError> {
        let _ = (name, config, &self.config);
        unimplemented!()
    }

    /// Mounts `version` at `target`, without waiting for data. A target that has a version already keeps it; its keys become
    /// `secret`.
    pub async fn publish(
        &self,
        volume_id: &str,
        target: &Path,
        version: &VersionManifest,
        secret: SecretKeys,
        artifacts: &dyn ArtifactStore,
    ) -> Result<(), ServeError> {
        let _ = (volume_id, target, version, secret, artifacts);
        unimplemented!()
    }

    /// Unmounts `target` and removes the directory if [`Self::publish`] made it. The last target of a version takes the
    /// version's mount and loop devices with it.
    pub async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<(), ServeError> {
        let _ = (volume_id, target);
        unimplemented!()
    }

    /// Whether a version is mounted at `target`.
    pub fn is_published(&self, target: &Path) -> bool {
        let _ = target;
        unimplemented!()
    }

    /// New keys for the sources of what is published as `volume_id`.
    pub fn refresh_secret(&self, volume_id: &str, secret: SecretKeys) {
        let _ = (volume_id, secret);
    }

    /// What is mounted and cached now.
    pub fn report(&self) -> Report {
        unimplemented!()
    }

    /// Ends the server: with `unmount` everything is unmounted, otherwise mounts stay for a successor and reads of them fail
    /// until it has come.
    pub async fn stop(&self, unmount: bool) {
        let _ = unmount;
    }
}
