//! Versions and targets on this node: every step that the kernel takes part in. Nothing here is asynchronous, so that no
//! step is left half done because a caller went away; callers hold the locks of the target and the version.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use granary_blob::{PartsHold, Pool};
use granary_image::PartRanges;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::claims::Claims;
use crate::keeping::Keeping;
use crate::live::{Backing, BlobDevice, LiveVersion, NativeHold, Still};
use crate::loops::{Label, LoopDevice, Role};
use crate::pools::Pools;
use crate::probe::probe;
use crate::served::{ServedBlob, ServedBlobs};
use crate::state_dir::{StateDir, VersionDir, read_json, remove_dir};
use crate::survey::{Mounted, Survey, is_erofs_on_loop};
use crate::volumes::{Volume, Volumes};
use crate::{Layout, ServeError, ServerConfig, VersionManifest, artifacts, erofs, file_image, fusectl, superblocks};

/// A blob's device is never empty, though a dataset can be.
const LEAST_BLOB_BYTES: u64 = granary_image::BLOCK_BYTES;

/// Share of a pool's limit that mounts may pin: one in so many.
const PINNED_SHARE: u64 = 2;

/// What is mounted on this node.
pub(crate) struct Node {
    pub(crate) layout: Layout,
    runtime: Handle,
    pub(crate) state: StateDir,
    claims: Arc<Claims>,
    pub(crate) pools: Pools,
    pub(crate) volumes: Volumes,
    pub(crate) blobs: ServedBlobs,
    versions: Mutex<HashMap<String, Arc<LiveVersion>>>,
    /// Names of versions that nobody served before this process did, though they were mounted.
    pub(crate) interrupted: Mutex<Vec<String>>,
}

impl Node {
    pub(crate) fn open(
        config: &ServerConfig,
        runtime: Handle,
        keep: fn(Option<&Path>) -> Keeping,
    ) -> Result<Self, ServeError> {
        let state = StateDir::open(&config.state_dir)?;
        let layout = probe(state.root(), config.layout);
        let claims = Arc::new(Claims::find(&state, &survey(&state.instance)?)?);
        Ok(Self {
            layout,
            pools: Pools::load(state.pools_file(), claims.clone()),
            volumes: Volumes::load(state.volumes())?,
            blobs: ServedBlobs::new(runtime.clone(), keep(config.keeper.as_deref())),
            versions: Mutex::default(),
            interrupted: Mutex::default(),
            claims,
            runtime,
            state,
        })
    }

    pub(crate) fn survey(&self) -> Result<Survey, ServeError> {
        survey(&self.state.instance)
    }

    /// Has the open pools ask for what is read natively when they need the room, and tell what of it they have repaired.
    pub(crate) fn lend(self: &Arc<Self>) {
        for (name, pool) in self.pools.all() {
            let (node, of) = (Arc::downgrade(self), name.clone());
            pool.set_repaired(move |blob_id, range| {
                if let Some(node) = node.upgrade() {
                    node.forget_pages(&of, blob_id, range);
                }
            });
            let node = Arc::downgrade(self);
            pool.set_give_back(move || node.upgrade().is_some_and(|node| node.give_back(&name)));
        }
    }

    /// Gives room for eviction: what nobody reads any more, or else the version that is read natively and was used least: not
    /// since room was needed last, or for the longest time.
    fn give_back(&self, pool: &str) -> bool {
        if self.survey().is_ok_and(|survey| self.claims.sweep(&self.state, &survey)) {
            return true;
        }
        let versions = self.all_live().into_iter().map(|(_, version)| version);
        let of_it = versions.filter(|version| version.manifest.pool == pool);
        let mut native: Vec<_> = of_it.filter_map(|version| Some((version.native_use()?, version))).collect();
        native.sort_by_key(|(used, _)| *used);
        native.iter().any(|(_, version)| {
            let name = &version.manifest.version;
            match version.give_back() {
                Ok(true) => tracing::info!(version = name, "its room is needed: reading through the daemon again"),
                Ok(false) => return false,
                Err(error) => {
                    tracing::error!(version = name, %error, "its room is needed, but it cannot be given back");
                    return false;
                }
            }
            true
        })
    }

    pub(crate) fn live(&self, key: &str) -> Option<Arc<LiveVersion>> {
        self.versions.lock().get(key).cloned()
    }

    pub(crate) fn all_live(&self) -> Vec<(String, Arc<LiveVersion>)> {
        self.versions.lock().iter().map(|(key, version)| (key.clone(), version.clone())).collect()
    }

    /// Serves and mounts the version whose directory is complete, and follows what becomes of it.
    pub(crate) fn open_version(&self, key: &str) -> Result<Arc<LiveVersion>, ServeError> {
        let version = self.adopt_version(key)?;
        self.follow(&version);
        Ok(version)
    }

    /// Moves a version, from now on, to where it is best read.
    pub(crate) fn follow(&self, version: &Arc<LiveVersion>) {
        version.follow(&self.runtime);
    }

    /// As [`Self::open_version`], and leaves it where it is. One that is mounted already, by a predecessor, is adopted.
    pub(crate) fn adopt_version(&self, key: &str) -> Result<Arc<LiveVersion>, ServeError> {
        let dir = self.state.version(key);
        let manifest: VersionManifest = read_json(&dir.manifest())?;
        let (table, parts) = artifacts::open(&dir)?;
        let parts = Arc::new(parts);
        let pool = self.pools.get(&manifest.pool)?;
        let blob = self.blobs.serve(&manifest, &pool, table)?;
        let resumed = self.resume_filesystem(key, &dir, &manifest, &blob)?;
        let survey = self.survey()?;
        let backing = match (resumed, survey.mounted(key)) {
            (Some(resumed), _) => resumed,
            (None, Some(mounted)) => self.heal(key, &dir, &manifest, &survey, &mounted, &blob)?,
            (None, None) if self.layout == Layout::FUSE => self.mount_filesystem(key, &dir, &blob)?,
            (None, None) => match self.hold_for_mount(&manifest, &pool, &blob, &parts) {
                Some(hold) => self.mount_files(key, &dir, &manifest, &blob, hold)?,
                None => self.mount_loops(key, &dir, &manifest, &blob)?,
            },
        };
        let version = Arc::new(LiveVersion::new(manifest, blob, parts, backing));
        version.set_preload(version.manifest.preload);
        self.versions.lock().insert(key.to_owned(), version.clone());
        Ok(version)
    }

    /// Holds a version that is to be mounted, if all of it is there, and if it may be pinned.
    fn hold_for_mount(
        &self,
        manifest: &VersionManifest,
        pool: &Pool,
        blob: &ServedBlob,
        parts: &Arc<PartRanges>,
    ) -> Option<PartsHold> {
        if self.layout != Layout::EROFSFile {
            return None;
        }
        let hold = blob.blob.hold(parts).ok()?;
        let of_pool = |version: &&Arc<LiveVersion>| version.manifest.pool == manifest.pool;
        let pinned: u64 = self.versions.lock().values().filter(of_pool).map(|version| version.pinned_bytes()).sum();
        (pinned + hold.bytes() <= pool.usage().limit_bytes / PINNED_SHARE).then_some(hold)
    }

    /// Mounts a version that is held on its files, or on loop devices if the kernel does not take these files.
    fn mount_files(
        &self,
        key: &str,
        dir: &VersionDir,
        manifest: &VersionManifest,
        blob: &ServedBlob,
        hold: PartsHold,
    ) -> Result<Backing, ServeError> {
        let name = file_image::name(&self.state.instance, &manifest.blob_id);
        let image = dir.link_image(&name).map_err(ServeError::io("link", dir.image()))?;
        hold.drop_pages();
        match erofs::mount_files(&image, &blob.blob.data_path(), &dir.mount_point()) {
            Ok(names) => {
                let hold = NativeHold::new(hold);
                superblocks::write(dir, names)?;
                Ok(Backing::Files(Some(hold)))
            }
            Err(error) => {
                tracing::info!(version = manifest.version, %error, "the kernel does not mount the cache's file itself");
                drop(hold);
                self.mount_loops(key, dir, manifest, blob)
            }
        }
    }

    fn mount_loops(
        &self,
        key: &str,
        dir: &VersionDir,
        manifest: &VersionManifest,
        blob: &ServedBlob,
    ) -> Result<Backing, ServeError> {
        let label = |role| Label { instance: self.state.instance.clone(), version: key.to_owned(), role };
        let image_file = File::open(dir.image()).map_err(ServeError::io("open", dir.image()))?;
        let image = LoopDevice::bind(image_file, manifest.image_bytes, 0, &label(Role::Image))
            .map_err(ServeError::io("bind a loop device to", dir.image()))?;
        let bytes = manifest.blob_bytes.max(LEAST_BLOB_BYTES);
        let blob_label = label(Role::BlobFor(image.number()));
        let blob = LoopDevice::bind(&blob.file, bytes, granary_image::BLOCK_BYTES as u32, &blob_label)
            .map_err(ServeError::io("bind a loop device to the blob of", dir.path()))?;
        let mount_point = dir.mount_point();
        // On failure both devices clear themselves when they are closed here.
        erofs::mount(&image, &blob, &mount_point).map_err(ServeError::io("mount", &mount_point))?;
        Ok(Backing::Fuse(BlobDevice { number: blob.number(), label: blob_label }))
    }

    /// Goes on with what a predecessor mounted: what is read natively and is held stays so, and what a keeper has held is served
    /// by now. Every other blob's device moves to this process's file, below whoever reads.
    fn heal(
        &self,
        key: &str,
        dir: &VersionDir,
        manifest: &VersionManifest,
        survey: &Survey,
        mounted: &Mounted<'_>,
        blob: &ServedBlob,
    ) -> Result<Backing, ServeError> {
        // One on a file that was discarded since is of no use: what is fetched goes to another.
        let hold = self.claims.take(key).filter(|hold| blob.blob.is_of(hold)).map(NativeHold::new);
        let mount_point = dir.mount_point();
        let is_missing = survey.mount_points(key).all(|path| path != mount_point);
        match mounted {
            Mounted::Files(at) => {
                if is_missing {
                    erofs::bind(at, &mount_point).map_err(ServeError::io("mount", &mount_point))?;
                }
                Ok(Backing::Files(hold))
            }
            Mounted::Loops(pair) => {
                let role = Role::BlobFor(pair.image.number());
                let label = Label { instance: self.state.instance.clone(), version: key.to_owned(), role };
                let device = BlobDevice { number: pair.blob.number(), label };
                let backing = match hold {
                    Some(hold) if pair.is_native => Backing::Native { device, hold, since: Instant::now() },
                    _ if !pair.is_native && blob.file.is_below(pair.blob).unwrap_or(false) => Backing::Fuse(device),
                    _ => {
                        if !pair.is_native {
                            pair.blob.backing_minor().into_iter().for_each(abort_connection);
                            self.interrupted.lock().push(manifest.version.clone());
                        }
                        let moved = pair.blob.change_backing(&blob.file);
                        moved.map_err(ServeError::io("move to a new file", pair.blob.path()))?;
                        Backing::Fuse(device)
                    }
                };
                if is_missing {
                    erofs::mount(pair.image, pair.blob, &mount_point).map_err(ServeError::io("mount", &mount_point))?;
                }
                Ok(backing)
            }
        }
    }

    /// Shows a live version at `target`.
    pub(crate) fn bind(&self, volume_id: &str, key: &str, target: &Path) -> Result<(), ServeError> {
        let is_there = target.symlink_metadata().is_ok();
        // One that an earlier, interrupted call made still counts as made.
        let made_target = !is_there || self.volumes.at(target).is_some_and(|volume| volume.made_target);
        // Kept before the directory and the mount, so that neither is without one.
        let (volume_id, version) = (volume_id.to_owned(), key.to_owned());
        self.volumes.insert(Volume { volume_id, target: target.to_owned(), version, made_target })?;
        match DirBuilder::new().mode(0o750).create(target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(ServeError::io("create", target)(error));
            }
            _ => {}
        }
        let source = self.state.version(key).mount_point();
        erofs::bind(&source, target).map_err(ServeError::io("bind-mount a version at", target))
    }

    /// Makes sure that a target that is bound already has a record of this volume.
    pub(crate) fn keep_record(&self, volume_id: &str, key: &str, target: &Path) -> Result<(), ServeError> {
        let old = self.volumes.at(target);
        let made_target = old.as_ref().is_none_or(|volume| volume.made_target);
        let (volume_id, version) = (volume_id.to_owned(), key.to_owned());
        let volume = Volume { volume_id, target: target.to_owned(), version, made_target };
        if old.as_ref() == Some(&volume) { Ok(()) } else { self.volumes.insert(volume) }
    }

    /// Takes away every version that is mounted at `target`, then the directory and the record. Gives the key of the version
    /// that was there.
    pub(crate) fn unbind(&self, target: &Path) -> Result<Option<String>, ServeError> {
        let volume = self.volumes.at(target);
        let mut key = volume.as_ref().map(|volume| volume.version.clone());
        loop {
            let survey = self.survey()?;
            let Some(mount) = survey.at(target) else { break };
            let own = survey.version_at(target).map(str::to_owned);
            if own.is_none() && !is_erofs_on_loop(mount) {
                let found = format!("{} from {}", mount.filesystem, mount.source.display());
                return Err(ServeError::Occupied { target: target.to_owned(), found });
            }
            key = key.or(own);
            erofs::unmount(target).map_err(ServeError::io("unmount", target))?;
        }
        // Without a record the directory is taken for made: it is a container orchestrator's, and empty, or it stays.
        if volume.is_none_or(|volume| volume.made_target) {
            remove_dir(target)?;
        }
        self.volumes.remove(target)?;
        Ok(key)
    }

    /// Unmounts the version if it has no target. Its directory stays for the next time if it is complete. Gives whether it is
    /// unmounted.
    pub(crate) fn release_unused(&self, key: &str) -> Result<bool, ServeError> {
        let dir = self.state.version(key);
        let mount_point = dir.mount_point();
        let survey = self.survey()?;
        if self.has_targets(&survey, key) {
            return Ok(false);
        }
        // Somebody may have a file open: what he reads from now on is an error and never what takes the parts' place.
        if let Some(version) = self.live(key)
            && let Some(hold) = version.close()?
        {
            self.claims.park(key, hold);
        }
        // Ends the service first if no other version uses the blob: reads that wait for a source would hold up the unmount.
        drop(self.versions.lock().remove(key));
        while self.survey()?.at(&mount_point).is_some() {
            erofs::unmount(&mount_point).map_err(ServeError::io("unmount", &mount_point))?;
        }
        for device in survey.devices(key) {
            device.clear().map_err(ServeError::io("clear", device.path()))?;
        }
        // Closes the devices, which go with their last user.
        drop(survey);
        self.claims.sweep(&self.state, &self.survey()?);
        match dir.last_use() {
            Some(_) => dir.touch().map_err(ServeError::io("write", dir.manifest()))?,
            None => dir.remove()?,
        }
        Ok(true)
    }

    /// Whether the directory of version `key` is of use to anybody now.
    pub(crate) fn is_used(&self, survey: &Survey, key: &str) -> bool {
        self.live(key).is_some()
            || self.claims.has(key)
            || survey.keys().any(|used| used == key)
            || superblocks::may_live(&self.state.version(key))
    }

    /// Whether version `key` is mounted elsewhere than at its private place.
    pub(crate) fn has_targets(&self, survey: &Survey, key: &str) -> bool {
        let mount_point = self.state.version(key).mount_point();
        survey.mount_points(key).any(|path| path != mount_point)
    }

    /// Forgets every live version without unmounting it. What a keeper holds is left to a successor: reads wait for it.
    pub(crate) fn leave(&self) {
        let mut versions = self.versions.lock();
        let mut still: Vec<_> = versions.values().map(|version| version.still()).collect();
        if self.blobs.keeping.leave() {
            still.iter_mut().for_each(Still::leave);
        }
        drop(still);
        versions.clear();
    }
}

fn survey(instance: &str) -> Result<Survey, ServeError> {
    Survey::take(instance).map_err(ServeError::io("look at mounts and loop devices in", "/proc and /sys"))
}

/// Ends the FUSE connection of a device. One whose server is gone but whose descriptor somebody holds would never answer, and
/// the change of a loop device's file waits for what is under way. The kernel has aborted the others.
pub(crate) fn abort_connection(minor: u32) {
    if let Err(error) = fusectl::abort(minor) {
        tracing::warn!(minor, %error, "a FUSE connection that a predecessor left cannot be given up");
    }
}
