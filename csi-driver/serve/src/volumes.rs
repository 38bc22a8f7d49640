//! What is published where, kept on disk for a successor.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use granary_image::Digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::ServeError;
use crate::state_dir::{read_json, remove_file, write_json};

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume {
    /// The volume's id; several targets can have one.
    pub(crate) volume_id: String,
    /// Canonical, as mountinfo has it.
    pub(crate) target: PathBuf,
    /// Key of the version.
    pub(crate) version: String,
    /// Whether the directory was made for it.
    pub(crate) made_target: bool,
}

/// All targets.
pub(crate) struct Volumes {
    dir: PathBuf,
    volumes: Mutex<HashMap<PathBuf, Volume>>,
}

impl Volumes {
    /// Reads what a predecessor kept. A file that cannot be read is left out: its mount is found in the kernel. One that was not
    /// written to its end is removed: its name may never come again.
    pub(crate) fn load(dir: PathBuf) -> Result<Self, ServeError> {
        let mut volumes = HashMap::new();
        for entry in std::fs::read_dir(&dir).map_err(ServeError::io("list", &dir))? {
            let path = entry.map_err(ServeError::io("list", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                remove_file(&path).map_err(ServeError::io("remove", &path))?;
            }
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_json::<Volume>(&path) {
                Ok(volume) => _ = volumes.insert(volume.target.clone(), volume),
                Err(error) => tracing::warn!(%error, "a volume's record is left out"),
            }
        }
        Ok(Self { dir, volumes: Mutex::new(volumes) })
    }

    fn file(&self, target: &Path) -> PathBuf {
        self.dir.join(format!("{}.json", Digest::of(target.as_os_str().as_bytes()).hex()))
    }

    /// Keeps `volume`.
    pub(crate) fn insert(&self, volume: Volume) -> Result<(), ServeError> {
        write_json(&self.file(&volume.target), &volume)?;
        self.volumes.lock().insert(volume.target.clone(), volume);
        Ok(())
    }

    /// Forgets what is at `target`.
    pub(crate) fn remove(&self, target: &Path) -> Result<(), ServeError> {
        let file = self.file(target);
        remove_file(&file).map_err(ServeError::io("remove", &file))?;
        self.volumes.lock().remove(target);
        Ok(())
    }

    pub(crate) fn at(&self, target: &Path) -> Option<Volume> {
        self.volumes.lock().get(target).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Volume> {
        self.volumes.lock().values().cloned().collect()
    }

    /// Keys of the versions that are published as `volume_id`.
    pub(crate) fn versions_of(&self, volume_id: &str) -> Vec<String> {
        let volumes = self.volumes.lock();
        volumes.values().filter(|volume| volume.volume_id == volume_id).map(|volume| volume.version.clone()).collect()
    }

    /// Number of targets of each version.
    pub(crate) fn targets(&self) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for volume in self.volumes.lock().values() {
            *counts.entry(volume.version.clone()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(id: &str, target: &str, version: &str) -> Volume {
        Volume { volume_id: id.into(), target: target.into(), version: version.into(), made_target: true }
    }

    #[test]
    fn records_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::load(dir.path().to_owned()).unwrap();
        for (id, target, version) in [("a", "/pods/1", "x"), ("a", "/pods/2", "x"), ("b", "/pods/3", "y")] {
            volumes.insert(volume(id, target, version)).unwrap();
        }
        volumes.remove(Path::new("/pods/3")).unwrap();
        volumes.remove(Path::new("/pods/3")).unwrap();
        std::fs::write(dir.path().join("half.json"), "{\"volumeId\"").unwrap();
        std::fs::write(dir.path().join("half.new"), "").unwrap();
        let again = Volumes::load(dir.path().to_owned()).unwrap();
        assert_eq!(again.at(Path::new("/pods/1")), Some(volume("a", "/pods/1", "x")));
        assert_eq!(again.targets(), HashMap::from([("x".to_owned(), 2)]));
        assert_eq!(again.versions_of("a"), ["x", "x"]);
        assert_eq!(again.versions_of("b"), [""; 0]);
        assert!(!dir.path().join("half.new").exists());
    }
}
