//! The server: what callers see, and which lock each operation takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use granary_blob::PoolConfig;
use granary_fetch::SecretKeys;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

use crate::adopt::adopt;
use crate::allocator;
use crate::artifacts::{self, run_blocking};
use crate::keeping::Keeping;
use crate::locks::NamedLocks;
use crate::node::Node;
use crate::state_dir::write_json;
use crate::{ArtifactStore, Layout, LayoutChoice, Report, ServeError, VersionManifest, kept, mountinfo, report};

/// How long an unpublish waits for the kernel to let its version go: reads that wait for a source hold that up as long as
/// another version of the blob is served. The target is free by then.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The server's own directory: manifests, images and private mount points. It is made with mode 0700 if the one above it
    /// exists. To survive a container, it must lie on a mount that is shared with the host.
    pub state_dir: PathBuf,
    /// Pools by the name of their class; those that a predecessor had are remembered.
    pub pools: BTreeMap<String, PoolConfig>,
    /// How versions shall be mounted. What a predecessor mounted stays as it is.
    pub layout: LayoutChoice,
    /// Where a keeper listens, which holds what a successor needs. It may come, go and come back. Without one, reads through the
    /// daemon fail from the end of a process until its successor has come.
    pub keeper: Option<PathBuf>,
}

/// Mounts versions at targets. Every operation may be called again, at the same time, and after a crash.
pub struct Server {
    node: Arc<Node>,
    /// Locks are taken in this order: target, version.
    targets: NamedLocks<PathBuf>,
    versions: Arc<NamedLocks<String>>,
    runtime: Handle,
}

impl Server {
    /// Finds out what the kernel can, and adopts or releases what a predecessor left. Must be called in a tokio runtime.
    pub async fn start(config: ServerConfig) -> Result<Arc<Self>, ServeError> {
        Self::start_with(config, Keeping::start).await
    }

    /// As [`Self::start`] on a kernel that cannot ask a successor again, for tests.
    #[doc(hidden)]
    pub async fn start_without_resend(config: ServerConfig) -> Result<Arc<Self>, ServeError> {
        Self::start_with(config, Keeping::start_without_resend).await
    }

    async fn start_with(config: ServerConfig, keep: fn(Option<&Path>) -> Keeping) -> Result<Arc<Self>, ServeError> {
        allocator::settle();
        let runtime = Handle::current();
        let blobs_runtime = runtime.clone();
        let versions: Arc<NamedLocks<String>> = Arc::default();
        let locks = versions.clone();
        let node = run_blocking(move || {
            let node = Arc::new(Node::open(&config, blobs_runtime, keep)?);
            node.lend();
            for (name, pool) in config.pools {
                node.pools.set(&name, pool)?;
                node.lend();
            }
            if !matches!(node.layout, Layout::Unsupported(_)) {
                adopt(&node)?;
                kept::trim(&node, &locks)?;
            }
            Ok(node)
        })
        .await?;
        Ok(Arc::new(Self { node, targets: NamedLocks::default(), versions, runtime }))
    }

    /// What this kernel can do.
    pub fn layout(&self) -> Layout {
        self.node.layout.clone()
    }

    /// Opens the pool of a class, or gives an open one new limits.
    pub fn set_pool(&self, name: &str, config: PoolConfig) -> Result<(), ServeError> {
        if self.node.pools.set(name, config)? {
            self.node.lend();
            self.serve_mounted();
        }
        Ok(())
    }

    /// Checks what each pool has against its checksums at this rate, in the background; 0: not at all. Without this it is
    /// [`granary_blob::SCRUB_RATE`]. A pass over a pool begins now, if none is under way, and then once a day.
    pub fn set_scrub_rate(&self, bytes_per_second: u64) {
        self.node.pools.set_scrub_rate(bytes_per_second);
    }

    /// Tries again to serve what a predecessor mounted and could not be served at the start, for want of its cache say.
    fn serve_mounted(&self) {
        let keys: BTreeSet<String> = self.node.volumes.all().into_iter().map(|volume| volume.version).collect();
        for key in keys {
            let (node, locks) = (self.node.clone(), self.versions.clone());
            self.runtime.spawn(async move {
                let version_lock = locks.lock(key.clone()).await;
                let open = move || {
                    let _lock = version_lock;
                    if node.live(&key).is_none() {
                        node.open_version(&key)?;
                    }
                    Ok(())
                };
                if let Err(error) = run_blocking(open).await {
                    tracing::error!(%error, "a mounted version cannot be served");
                }
            });
        }
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
        if let Layout::Unsupported(reason) = &self.node.layout {
            return Err(ServeError::Unsupported(reason.clone()));
        }
        let target = mountinfo::canonical(target).map_err(ServeError::io("resolve", target))?;
        let target_lock = self.targets.lock(target.clone()).await;
        let present = self.at(&target).await?;
        let key = present.clone().unwrap_or_else(|| version.key());
        let version_lock = self.versions.lock(key.clone()).await;
        // What a predecessor mounted has its own manifest, unless that was lost.
        if key == version.key() {
            let dir = self.node.state.version(&key);
            match self.node.live(&key) {
                None => artifacts::complete(&dir, version, artifacts).await?,
                // The latest word holds, also for a successor.
                Some(live) if live.set_preload(version.preload) => write_json(&dir.manifest(), version)?,
                Some(_) => {}
            }
        }
        let (node, volume_id, is_bound) = (self.node.clone(), volume_id.to_owned(), present.is_some());
        run_blocking(move || {
            let _locks = (target_lock, version_lock);
            let result = publish(&node, &volume_id, &key, &target, secret, is_bound);
            if result.is_err() && !is_bound {
                roll_back(&node, &key, &target);
            }
            result
        })
        .await
    }

    /// The key of the version at `target`; an error if something else is there.
    async fn at(&self, target: &Path) -> Result<Option<String>, ServeError> {
        let (node, target) = (self.node.clone(), target.to_owned());
        run_blocking(move || {
            let survey = node.survey()?;
            match (survey.version_at(&target), survey.at(&target)) {
                (Some(key), _) => Ok(Some(key.to_owned())),
                (None, None) => Ok(None),
                (None, Some(mount)) => {
                    let found = format!("{} from {}", mount.filesystem, mount.source.display());
                    Err(ServeError::Occupied { target, found })
                }
            }
        })
        .await
    }

    /// Unmounts `target` and removes the directory if [`Self::publish`] made it. The last target of a version takes the
    /// version's mount and loop devices with it; its image stays for the next, within bounds.
    pub async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<(), ServeError> {
        let target = match mountinfo::canonical(target) {
            // Where there is no directory, nothing is mounted.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(ServeError::io("resolve", target))?,
        };
        tracing::debug!(volume_id, target = %target.display(), "unpublishing");
        let target_lock = self.targets.lock(target.clone()).await;
        let node = self.node.clone();
        let (target_lock, key) = run_blocking(move || {
            let key = node.unbind(&target)?;
            Ok((target_lock, key))
        })
        .await?;
        match key {
            Some(key) => self.release_unused(target_lock, key).await,
            None => Ok(()),
        }
    }

    async fn release_unused(&self, target_lock: OwnedMutexGuard<()>, key: String) -> Result<(), ServeError> {
        let version_lock = self.versions.lock(key.clone()).await;
        let (node, locks, version) = (self.node.clone(), self.versions.clone(), key.clone());
        let mut release = self.runtime.spawn(run_blocking(move || {
            let _locks = (target_lock, version_lock);
            if node.release_unused(&key)? {
                kept::trim(&node, &locks)?;
            }
            Ok(())
        }));
        match tokio::time::timeout(RELEASE_PATIENCE, &mut release).await {
            Ok(released) => released.unwrap_or(Err(ServeError::Stopped)),
            Err(_) => {
                tracing::warn!(version, "the target is free; the version is let go when reads of it have ended");
                self.runtime.spawn(async move {
                    if let Ok(Err(error)) = release.await {
                        tracing::error!(version, %error, "cannot let a version go");
                    }
                });
                Ok(())
            }
        }
    }

    /// Whether a version is mounted at `target`.
    pub fn is_published(&self, target: &Path) -> bool {
        let Ok(target) = mountinfo::canonical(target) else { return false };
        let survey = self.node.survey().inspect_err(|error| tracing::error!(%error, "cannot see what is published"));
        survey.is_ok_and(|survey| survey.version_at(&target).is_some())
    }

    /// Whether it is `version` that is mounted at `target`.
    pub fn shows(&self, target: &Path, version: &VersionManifest) -> bool {
        let Ok(target) = mountinfo::canonical(target) else { return false };
        self.node.survey().is_ok_and(|survey| survey.version_at(&target) == Some(&version.key()))
    }

    /// New keys for the sources of what is published as `volume_id`.
    pub fn refresh_secret(&self, volume_id: &str, secret: SecretKeys) {
        for key in self.node.volumes.versions_of(volume_id) {
            if let Some(version) = self.node.live(&key) {
                version.blob.set_secret(secret.clone());
            }
        }
    }

    /// Versions by their names that were mounted and that nobody served before this server did: whoever read them in between may
    /// have got errors.
    pub fn interrupted(&self) -> Vec<String> {
        self.node.interrupted.lock().clone()
    }

    /// What is mounted and cached now.
    pub fn report(&self) -> Report {
        report::report(&self.node)
    }

    /// Unmounts every target, those that a predecessor published included.
    pub async fn unpublish_all(&self) {
        self.unpublish_where(|_| true).await;
    }

    /// Unmounts every target but this one.
    pub async fn unpublish_others(&self, target: &Path) {
        let target = mountinfo::canonical(target).ok();
        self.unpublish_where(|other| Some(other) != target.as_deref()).await;
    }

    async fn unpublish_where(&self, holds: impl Fn(&Path) -> bool) {
        for volume in self.node.volumes.all().into_iter().filter(|volume| holds(&volume.target)) {
            if let Err(error) = self.unpublish(&volume.volume_id, &volume.target).await {
                tracing::error!(target = %volume.target.display(), %error, "cannot unmount");
            }
        }
    }

    /// Ends the server: with `unmount` everything is unmounted, otherwise mounts stay for a successor. If a keeper has them, reads
    /// wait until it has come, and this process must end; otherwise they fail until then.
    pub async fn stop(&self, unmount: bool) {
        if unmount {
            self.unpublish_all().await;
        }
        self.node.leave();
        for (_, pool) in self.node.pools.all() {
            pool.close().await;
        }
    }
}

fn publish(
    node: &Node,
    volume_id: &str,
    key: &str,
    target: &Path,
    secret: SecretKeys,
    is_bound: bool,
) -> Result<(), ServeError> {
    let version = match node.live(key) {
        Some(version) => version,
        None => node.open_version(key)?,
    };
    version.blob.set_secret(secret);
    if is_bound {
        node.renew(key, target)?;
        node.keep_record(volume_id, key, target)
    } else {
        node.bind(volume_id, key, target)
    }
}

/// Takes back what a failed publish did. What cannot be taken back now is repaired by the next call or the next start.
fn roll_back(node: &Node, key: &str, target: &Path) {
    let result = node.unbind(target).and_then(|_| node.release_unused(key));
    if let Err(error) = result {
        tracing::warn!(target = %target.display(), %error, "cannot take back a failed publish");
    }
}
