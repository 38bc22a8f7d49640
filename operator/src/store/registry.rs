//! Which index Jobs this operator made, by UID: nobody else's are believed. On the store's volume, because everything in the cluster that
//! could say it can be written by others too.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

/// How long a Job that was just made may be missing from a cache.
const CACHE_LAG: Duration = Duration::from_secs(3600);

/// The Jobs that this operator made.
pub struct JobRegistry {
    dir: PathBuf,
    known: Mutex<HashMap<String, SystemTime>>,
}

impl JobRegistry {
    /// Opens the registry below `dir`.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join("jobs");
        fs::create_dir_all(&dir)?;
        let entries = fs::read_dir(&dir)?.map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.modified()?))
        });
        let known = entries.collect::<io::Result<_>>()?;
        Ok(Self { dir, known: Mutex::new(known) })
    }

    /// Whether this operator made the Job with this UID.
    pub fn has(&self, uid: &str) -> bool {
        self.known.lock().contains_key(uid)
    }

    /// Remembers a Job that was just made.
    pub fn add(&self, uid: &str) -> io::Result<()> {
        File::create(self.dir.join(uid))?;
        self.known.lock().insert(uid.to_owned(), SystemTime::now());
        Ok(())
    }

    /// Forgets a Job.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        if self.known.lock().remove(uid).is_some() {
            fs::remove_file(self.dir.join(uid))?;
        }
        Ok(())
    }

    /// Forgets Jobs that are not among these at `now`: Kubernetes deletes finished ones by itself.
    pub fn retain(&self, uids: &HashSet<String>, now: SystemTime) -> io::Result<()> {
        let is_old = |added: &SystemTime| now.duration_since(*added).is_ok_and(|age| age > CACHE_LAG);
        let known = self.known.lock().clone();
        let mut gone = known.iter().filter(|(uid, added)| !uids.contains(*uid) && is_old(added));
        gone.try_for_each(|(uid, _)| self.remove(uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let registry = JobRegistry::open(dir.path()).unwrap();
        for uid in ["a", "b", "c"] {
            registry.add(uid).unwrap();
        }
        registry.remove("b").unwrap();
        let again = JobRegistry::open(dir.path()).unwrap();
        assert!(again.has("a") && !again.has("b") && !again.has("x"));
        let kept = HashSet::from(["c".to_owned()]);
        again.retain(&kept, SystemTime::now()).unwrap();
        assert!(again.has("a"), "it may only be missing from a cache");
        again.retain(&kept, SystemTime::now() + CACHE_LAG * 2).unwrap();
        let last = JobRegistry::open(dir.path()).unwrap();
        assert!(!last.has("a") && last.has("c"));
    }
}
