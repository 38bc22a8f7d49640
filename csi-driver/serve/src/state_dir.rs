//! The server's own directory: private at every level, of one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use serde::{Serialize, de::DeserializeOwned};

use crate::ServeError;
use crate::loops::IMAGE_FILE;

const VERSIONS: &str = "versions";
const MOUNT_POINT: &str = "mnt";

/// `<state>/{lock,instance,pools.json,versions/<key>/,volumes/<hash>.json}`.
pub(crate) struct StateDir {
    root: PathBuf,
    /// Random and kept: labels loop devices.
    pub(crate) instance: String,
    _lock: File,
}

impl StateDir {
    /// Opens or makes the directory and takes it for this process.
    pub(crate) fn open(root: &Path) -> Result<Self, ServeError> {
        private_dir(root)?;
        let root = root.canonicalize().map_err(ServeError::io("resolve", root))?;
        let lock_path = root.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(ServeError::io("open", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => ServeError::InUse(root.clone()),
            error => ServeError::io("lock", &lock_path)(error),
        })?;
        for dir in [VERSIONS, "volumes"] {
            private_dir(&root.join(dir))?;
        }
        let instance = instance(&root.join("instance"))?;
        Ok(Self { root, instance, _lock: lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn pools_file(&self) -> PathBuf {
        pools_file(&self.root)
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(crate) fn version(&self, key: &str) -> VersionDir {
        VersionDir(self.root.join(VERSIONS).join(key))
    }

    /// Keys of all versions that have a directory.
    pub(crate) fn version_keys(&self) -> Result<Vec<String>, ServeError> {
        let dir = self.root.join(VERSIONS);
        let entries = std::fs::read_dir(&dir).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = entries.map_err(ServeError::io("list", &dir))?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

/// The directory of one version.
#[derive(Clone, Debug)]
pub(crate) struct VersionDir(PathBuf);

impl VersionDir {
    /// Makes the directory and its mount point. A mount point that is there is not looked at: it may be mounted, and the
    /// directory around it is private.
    pub(crate) fn create(&self) -> Result<(), ServeError> {
        private_dir(&self.0)?;
        let mount_point = self.mount_point();
        match DirBuilder::new().mode(0o700).create(&mount_point) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(ServeError::io("create", mount_point)(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.0.join(IMAGE_FILE)
    }

    pub(crate) fn extents(&self) -> PathBuf {
        self.0.join("extents")
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.0.join(MOUNT_POINT)
    }

    /// The directory that has a version's image, whoever's it is.
    pub(crate) fn of_image(image: &Path) -> Option<Self> {
        image.parent().map(|dir| Self(dir.to_owned()))
    }

    /// The file of the state directory's pools.
    pub(crate) fn pools_file(&self) -> Option<PathBuf> {
        Some(pools_file(self.0.parent()?.parent()?))
    }

    /// Names of the superblock, if it has no device.
    pub(crate) fn superblocks(&self) -> PathBuf {
        self.0.join("superblocks.json")
    }

    /// Gives the image a further name, which takes the place of what has it.
    pub(crate) fn link_image(&self, name: &str) -> io::Result<PathBuf> {
        let link = self.0.join(name);
        remove_file(&link)?;
        std::fs::hard_link(self.image(), &link)?;
        Ok(link)
    }

    /// When the version was last used, if its directory is complete.
    pub(crate) fn last_use(&self) -> Option<SystemTime> {
        self.manifest().metadata().and_then(|metadata| metadata.modified()).ok()
    }

    /// Says that the version is used now.
    pub(crate) fn touch(&self) -> io::Result<()> {
        File::options().append(true).open(self.manifest())?.set_modified(SystemTime::now())
    }

    /// Bytes of the artifacts.
    pub(crate) fn bytes(&self) -> u64 {
        [self.image(), self.extents()].iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum()
    }

    /// Removes the directory. Its mount point must not be mounted: rmdir refuses otherwise, and nothing below is touched.
    pub(crate) fn remove(&self) -> Result<(), ServeError> {
        remove_dir(&self.mount_point())?;
        // First, since a directory that has it is complete.
        remove_file(&self.manifest()).map_err(ServeError::io("remove", self.manifest()))?;
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ServeError::io("remove", &self.0)(error)),
            _ => Ok(()),
        }
    }
}

/// Whether a mount point is the private one of version `key`, whoever's it is.
pub(crate) fn is_private(mount_point: &Path, key: &str) -> bool {
    mount_point.ends_with(Path::new(VERSIONS).join(key).join(MOUNT_POINT))
}

fn pools_file(root: &Path) -> PathBuf {
    root.join("pools.json")
}

/// Removes an empty directory, if it is there.
pub(crate) fn remove_dir(path: &Path) -> Result<(), ServeError> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ServeError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory of mode 0700, or checks that what is there is one and this user's.
fn private_dir(path: &Path) -> Result<(), ServeError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(ServeError::io("create", path)(error));
        }
        _ => {}
    }
    let metadata = path.symlink_metadata().map_err(ServeError::io("inspect", path))?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let found = format!("owner {}, mode {:04o}", metadata.uid(), metadata.mode() & 0o7777);
    Err(ServeError::NotPrivate { path: path.to_owned(), found })
}

fn instance(path: &Path) -> Result<String, ServeError> {
    match std::fs::read_to_string(path) {
        Ok(id) if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => return Ok(id),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ServeError::io("read", path)(error)),
        _ => {}
    }
    let mut id = uuid::Uuid::new_v4().simple().to_string();
    id.truncate(12);
    write_durably(path, id.as_bytes())?;
    Ok(id)
}

/// Writes a file such that a crash leaves the old one or the new one.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), ServeError> {
    let temporary = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(ServeError::io("write", path))
}

/// Writes `value` as JSON, as [`write_durably`] does.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ServeError> {
    let text = serde_json::to_vec_pretty(value).map_err(ServeError::io("encode", path))?;
    write_durably(path, &text)
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ServeError> {
    let text = std::fs::read(path).map_err(ServeError::io("read", path))?;
    serde_json::from_slice(&text).map_err(ServeError::io("decode", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_level_is_private_and_the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let state = StateDir::open(&root).unwrap();
        state.version("abc").create().unwrap();
        for path in ["", "versions", "volumes", "versions/abc", "versions/abc/mnt"] {
            assert_eq!(root.join(path).metadata().unwrap().mode() & 0o7777, 0o700, "{path}");
        }
        assert_eq!(state.version_keys().unwrap(), ["abc"]);
        let instance = state.instance.clone();
        drop(state);
        assert_eq!(StateDir::open(&root).unwrap().instance, instance);
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let _state = StateDir::open(&root).unwrap();
        assert!(matches!(StateDir::open(&root), Err(ServeError::InUse(_))));
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        drop(StateDir::open(&root).unwrap());
        for path in ["versions", ""] {
            let path = root.join(path);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
            let Err(ServeError::NotPrivate { path: found, .. }) = StateDir::open(&root) else { panic!("taken") };
            assert_eq!(found.canonicalize().unwrap(), path.canonicalize().unwrap());
        }
    }

    #[test]
    fn a_missing_parent_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(StateDir::open(&dir.path().join("a/b")), Err(ServeError::Io { action: "create", .. })));
    }
}
