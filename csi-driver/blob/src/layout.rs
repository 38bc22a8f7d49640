//! The pool's directory: made, checked and locked. Only what a cache made is ever removed.

mod clean;
mod format;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use self::format::Found;
use crate::disk::{self, CacheFile};
use crate::error::PoolError;

/// The sparse file of a blob.
pub(crate) const DATA_FILE: &str = "data";
/// What a blob's directory holds, and nothing else.
pub(crate) const BLOB_FILES: [&str; 4] = [DATA_FILE, "parts", "meta.json", "meta.json.new"];

/// A pool's directory. The lock lasts as long as this.
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    /// Blobs that the last process left in order, with everything durable and checked: what their maps say needs no check.
    trusted: BTreeSet<String>,
    _lock: CacheFile,
}

impl Layout {
    /// Opens the directory, making it and its structure where they are missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, PoolError> {
        let fail = |action, path: &Path, e| PoolError::io(action, dir, path, e);
        match make_pool_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(PoolError::Missing(dir.to_path_buf())),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(PoolError::NotADirectory(dir.to_path_buf()));
            }
            other => other.map_err(|e| fail("create", dir, e))?,
        }
        if !dir.is_dir() {
            return Err(PoolError::NotADirectory(dir.to_path_buf()));
        }
        let format = dir.join(format::FILE);
        let blobs = dir.join(format::BLOBS);
        // Refused before anything is changed.
        format::read(dir, &format)?;
        private(dir)?;
        let lock = CacheFile::open(&format).map_err(|e| fail("open", &format, e))?;
        match rustix::fs::flock(&*lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PoolError::InUse(dir.to_path_buf())),
            other => other.map_err(|e| fail("lock", &format, e.into()))?,
        }
        // Again: another process may have made it meanwhile.
        let found = format::read(dir, &format)?;
        if found != Found::Ours {
            if found != Found::Nothing {
                tracing::warn!(dir = %dir.display(), %found, "the cache is of no use: discarding what it holds");
            }
            discard_blobs(&blobs).map_err(|e| fail("discard", &blobs, e))?;
            format::write(dir, &lock).map_err(|e| fail("write", &format, e))?;
        }
        let made = disk::make_dir(&blobs).and_then(|_| disk::sync_dir(dir));
        made.map_err(|e| fail("create", &blobs, e))?;
        private(&blobs)?;
        // One that a killed process made may not be on the disk.
        disk::sync_dir(&blobs).map_err(|e| fail("sync", &blobs, e))?;
        check_holes(dir, &format)?;
        let trusted = clean::take(dir).map_err(|e| fail("remove the mark of an orderly end from", dir, e))?;
        Ok(Self { dir: dir.to_path_buf(), trusted, _lock: lock })
    }

    /// Whether what the map of a blob says needs no check.
    pub(crate) fn trusts(&self, blob_id: &str) -> bool {
        self.trusted.contains(blob_id)
    }

    /// Says durably that everything of these blobs is in order, and checked.
    pub(crate) fn mark_clean(&self, blob_ids: &BTreeSet<String>) -> io::Result<()> {
        clean::write(&self.dir, blob_ids)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.join(format::BLOBS)
    }

    /// The blobs that have a directory. What is no blob's directory is left alone.
    pub(crate) fn blob_ids(&self) -> Result<Vec<String>, PoolError> {
        let blobs = self.blobs();
        list_blobs(&blobs).map_err(|e| PoolError::io("list", &self.dir, &blobs, e))
    }

    /// The directory of a blob, made private where it is missing.
    pub(crate) fn blob_dir(&self, id: &str) -> Result<PathBuf, PoolError> {
        if !is_blob_id(id) {
            return Err(PoolError::BadBlobId(id.to_owned()));
        }
        let dir = self.blobs().join(id);
        let made = disk::make_dir(&dir).and_then(|is_new| if is_new { disk::sync_dir(&self.blobs()) } else { Ok(()) });
        made.map_err(|e| PoolError::io("create", &self.dir, &dir, e))?;
        private(&dir)?;
        Ok(dir)
    }
}

/// Makes the pool's directory. Durably: a name that is lost takes with it whatever was made durable below.
fn make_pool_dir(dir: &Path) -> io::Result<()> {
    disk::make_dir(dir)?;
    match dir.parent() {
        Some(parent) if parent != Path::new("") => disk::sync_dir(parent),
        _ => Ok(()),
    }
}

/// Removes a blob's directory and the files in it that are ours.
pub(crate) fn discard_blob(dir: &Path) -> io::Result<()> {
    for name in BLOB_FILES {
        disk::remove_file(&dir.join(name))?;
    }
    match disk::remove_dir(dir) {
        // Something that is not ours: it stays.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    }
}

fn discard_blobs(blobs: &Path) -> io::Result<()> {
    match list_blobs(blobs) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        ids => ids?.iter().try_for_each(|id| discard_blob(&blobs.join(id))),
    }
}

fn list_blobs(blobs: &Path) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(blobs)? {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string())
            && is_blob_id(&name)
        {
            ids.push(name);
        }
    }
    ids.sort();
    Ok(ids)
}

fn is_blob_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Sees to it that a directory is ours and for nobody else.
fn private(dir: &Path) -> Result<(), PoolError> {
    let refuse = |found| PoolError::NotPrivate { path: dir.to_path_buf(), found };
    let meta = fs::symlink_metadata(dir).map_err(|e| PoolError::io("examine", dir, dir, e))?;
    if !meta.is_dir() {
        return Err(refuse("no directory".to_owned()));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return Err(refuse(format!("owner {}, not {me}", meta.uid())));
    }
    if meta.mode() & 0o7777 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(|e| PoolError::io("make private", dir, dir, e))?;
        let mode = fs::symlink_metadata(dir).map_err(|e| PoolError::io("examine", dir, dir, e))?.mode() & 0o7777;
        if mode != 0o700 {
            return Err(refuse(format!("mode {mode:04o}")));
        }
    }
    Ok(())
}

/// Tries what eviction will need.
fn check_holes(dir: &Path, format: &Path) -> Result<(), PoolError> {
    let probe = dir.join(format::PROBE);
    let result = CacheFile::open(&probe).and_then(|file| {
        file.set_len(1 << 20)?;
        file.punch(0, 1 << 20)
    });
    disk::remove_file(&probe).map_err(|e| PoolError::io("remove", dir, &probe, e))?;
    match result {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            Err(PoolError::NoHoles(dir.to_path_buf()))
        }
        other => other.map_err(|e| PoolError::io("punch a hole into a file beside", dir, format, e)),
    }
}

/// Frees a range of a file without changing its length: it reads as zeros.
pub(crate) fn punch(file: &CacheFile, offset: u64, len: u64) -> io::Result<()> {
    file.punch(offset, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_and_locked() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("cache");
        let layout = Layout::open(&dir).expect("open");
        layout.blob_dir("b1").expect("blob directory");
        for path in [dir.clone(), dir.join("blobs"), dir.join("blobs/b1")] {
            assert_eq!(fs::metadata(&path).expect("metadata").mode() & 0o7777, 0o700, "{path:?}");
        }
        assert!(matches!(Layout::open(&dir), Err(PoolError::InUse(_))));
        drop(layout);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        Layout::open(&dir).expect("open again");
        assert_eq!(fs::metadata(&dir).expect("metadata").mode() & 0o7777, 0o700);
    }

    #[test]
    fn ids_name_nothing_outside() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::open(root.path()).expect("open");
        for id in ["", ".", "..", "a/b", "a b", "/", &"a".repeat(65)] {
            assert!(matches!(layout.blob_dir(id), Err(PoolError::BadBlobId(_))), "{id}");
        }
        std::os::unix::fs::symlink("/", root.path().join("blobs/link")).expect("symlink");
        assert!(matches!(layout.blob_dir("link"), Err(PoolError::NotPrivate { .. })));
    }
}
