//! Versions and targets on this node: every step that the kernel takes part in. Nothing here is asynchronous, so that no
//! step is left half done because a caller went away; callers hold the locks of the target and the version.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use granary_image::ExtentTable;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::loops::{Label, LoopDevice, Role};
use crate::pools::Pools;
use crate::served::{ServedBlob, ServedBlobs};
use crate::state_dir::{StateDir, VersionDir, read_json, remove_dir};
use crate::survey::{Pair, Survey, is_erofs_on_loop};
use crate::volumes::{Volume, Volumes};
use crate::{ServeError, VersionManifest, erofs};

/// A blob's device is never empty, though a dataset can be.
const LEAST_BLOB_BYTES: u64 = granary_image::BLOCK_BYTES;

/// A version that is mounted at its private place and served.
pub(crate) struct LiveVersion {
    pub(crate) manifest: VersionManifest,
    pub(crate) blob: Arc<ServedBlob>,
}

/// What is mounted on this node.
pub(crate) struct Node {
    pub(crate) state: StateDir,
    pub(crate) pools: Pools,
    pub(crate) volumes: Volumes,
    pub(crate) blobs: ServedBlobs,
    versions: Mutex<HashMap<String, Arc<LiveVersion>>>,
}

impl Node {
    pub(crate) fn open(root: &Path, runtime: Handle) -> Result<Self, ServeError> {
        let state = StateDir::open(root)?;
        Ok(Self {
            pools: Pools::load(state.pools_file()),
            volumes: Volumes::load(state.volumes())?,
            blobs: ServedBlobs::new(runtime),
            versions: Mutex::default(),
            state,
        })
    }

    pub(crate) fn survey(&self) -> Result<Survey, ServeError> {
        Survey::take(&self.state.instance)
            .map_err(ServeError::io("look at mounts and loop devices in", "/proc and /sys"))
    }

    pub(crate) fn live(&self, key: &str) -> Option<Arc<LiveVersion>> {
        self.versions.lock().get(key).cloned()
    }

    pub(crate) fn all_live(&self) -> Vec<(String, Arc<LiveVersion>)> {
        self.versions.lock().iter().map(|(key, version)| (key.clone(), version.clone())).collect()
    }

    /// Serves and mounts the version whose directory is complete. One that is mounted already, by a predecessor, is healed:
    /// its blob's device is moved to this process's file.
    pub(crate) fn open_version(&self, key: &str) -> Result<Arc<LiveVersion>, ServeError> {
        let dir = self.state.version(key);
        let manifest: VersionManifest = read_json(&dir.manifest())?;
        let table = ExtentTable::open(&dir.extents())?;
        let pool = self.pools.get(&manifest.pool)?;
        let blob = self.blobs.serve(&manifest, &pool, table)?;
        let survey = self.survey()?;
        match survey.mounted(key) {
            Some(pair) => heal(key, &dir, &survey, &pair, &blob)?,
            None => self.mount_version(key, &dir, &manifest, &blob)?,
        }
        let version = Arc::new(LiveVersion { manifest, blob });
        self.versions.lock().insert(key.to_owned(), version.clone());
        Ok(version)
    }

    fn mount_version(
        &self,
        key: &str,
        dir: &VersionDir,
        manifest: &VersionManifest,
        blob: &ServedBlob,
    ) -> Result<(), ServeError> {
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
        erofs::mount(&image, &blob, &mount_point).map_err(ServeError::io("mount", &mount_point))
    }

    /// Shows a live version at `target`.
    pub(crate) fn bind(&self, volume_id: &str, key: &str, target: &Path) -> Result<(), ServeError> {
        let made_target = match DirBuilder::new().mode(0o750).create(target) {
            Ok(()) => true,
            // One that an earlier, failed call made still counts as made.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.volumes.at(target).is_some_and(|volume| volume.made_target)
            }
            Err(error) => return Err(ServeError::io("create", target)(error)),
        };
        // Kept before the mount, so that no mount is without one.
        let (volume_id, version) = (volume_id.to_owned(), key.to_owned());
        self.volumes.insert(Volume { volume_id, target: target.to_owned(), version, made_target })?;
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
            if !is_erofs_on_loop(mount) {
                let found = format!("{} from {}", mount.filesystem, mount.source.display());
                return Err(ServeError::Occupied { target: target.to_owned(), found });
            }
            key = key.or_else(|| survey.version_at(target).map(str::to_owned));
            erofs::unmount(target).map_err(ServeError::io("unmount", target))?;
        }
        // Without a record the directory is taken for made: it is a container orchestrator's, and empty, or it stays.
        if volume.is_none_or(|volume| volume.made_target) {
            remove_dir(target)?;
        }
        self.volumes.remove(target)?;
        Ok(key)
    }

    /// Unmounts the version and removes its directory if it has no target. Gives whether it is gone.
    pub(crate) fn release_unused(&self, key: &str) -> Result<bool, ServeError> {
        let dir = self.state.version(key);
        let mount_point = dir.mount_point();
        let survey = self.survey()?;
        if survey.mount_points(key).any(|path| path != mount_point) {
            return Ok(false);
        }
        // Ends the service first if no other version uses the blob: reads that wait for a source would hold up the unmount.
        drop(self.versions.lock().remove(key));
        while self.survey()?.at(&mount_point).is_some() {
            erofs::unmount(&mount_point).map_err(ServeError::io("unmount", &mount_point))?;
        }
        for device in survey.devices(key) {
            device.clear().map_err(ServeError::io("clear", device.path()))?;
        }
        dir.remove()?;
        Ok(true)
    }

    /// Forgets every live version without unmounting it.
    pub(crate) fn leave(&self) {
        self.versions.lock().clear();
    }
}

/// Goes on with what a predecessor mounted: its blob's device moves to this process's file, below whoever reads.
fn heal(key: &str, dir: &VersionDir, survey: &Survey, pair: &Pair<'_>, blob: &ServedBlob) -> Result<(), ServeError> {
    abort_connection(pair.blob);
    pair.blob.change_backing(&blob.file).map_err(ServeError::io("move to a new file", pair.blob.path()))?;
    let mount_point = dir.mount_point();
    if survey.mount_points(key).all(|path| path != mount_point) {
        erofs::mount(pair.image, pair.blob, &mount_point).map_err(ServeError::io("mount", &mount_point))?;
    }
    Ok(())
}

/// A connection whose server is gone but whose descriptor somebody holds would never answer, and the change of a loop
/// device's file waits for what is under way. The kernel has aborted the others.
fn abort_connection(device: &LoopDevice) {
    let Ok(minor) = device.backing_minor() else { return };
    let path = format!("/sys/fs/fuse/connections/{minor}/abort");
    match std::fs::write(&path, "1") {
        Ok(()) => tracing::info!(path, "aborted a FUSE connection that a predecessor left"),
        // The control filesystem may not be mounted, and a dead connection is not in it.
        Err(error) => tracing::debug!(path, %error, "no FUSE connection to abort"),
    }
}
