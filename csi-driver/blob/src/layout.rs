//! The pool's directory: made, checked and locked. Only what a cache made is ever removed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use crate::error::PoolError;

const FORMAT_NAME: &str = "granary-cache";
const FORMAT: u32 = 1;
/// The sparse file of a blob.
pub(crate) const DATA_FILE: &str = "data";
/// What a blob's directory holds, and nothing else.
pub(crate) const BLOB_FILES: [&str; 4] = [DATA_FILE, "parts", "meta.json", "meta.json.new"];
/// There as long as no process has opened the pool since one left it in order.
const CLEAN_FILE: &str = "clean";
/// Made by `mkfs` at the root of a new filesystem.
const LOST_AND_FOUND: &str = "lost+found";

/// A pool's directory. The lock lasts as long as this.
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    /// The last process that had it made everything durable and left in order: what the maps say needs no check.
    pub(crate) was_clean: bool,
    _lock: File,
}

impl Layout {
    /// Opens the directory, making it and its structure where they are missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, PoolError> {
        let fail = |action, path: &Path, e| PoolError::io(action, dir, path, e);
        match make_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(PoolError::Missing(dir.to_path_buf())),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(PoolError::NotADirectory(dir.to_path_buf()));
            }
            other => other.map_err(|e| fail("create", dir, e))?,
        }
        if !dir.is_dir() {
            return Err(PoolError::NotADirectory(dir.to_path_buf()));
        }
        let format = dir.join("format");
        let blobs = dir.join("blobs");
        let version = read_format(dir, &format)?;
        if version.is_none() && !is_empty(dir).map_err(|e| fail("list", dir, e))? {
            return Err(PoolError::NotACache(dir.to_path_buf()));
        }
        private(dir)?;
        let lock = open_private(&format).map_err(|e| fail("open", &format, e))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PoolError::InUse(dir.to_path_buf())),
            other => other.map_err(|e| fail("lock", &format, e.into()))?,
        }
        if let Some(found) = version.filter(|&found| found != FORMAT) {
            tracing::warn!(dir = %dir.display(), found, known = FORMAT, "the cache is of another format: discarding what it holds");
            discard_blobs(&blobs).map_err(|e| fail("discard", &blobs, e))?;
        }
        if version != Some(FORMAT) {
            write_format(&lock).map_err(|e| fail("write", &format, e))?;
        }
        make_dir(&blobs).map_err(|e| fail("create", &blobs, e))?;
        private(&blobs)?;
        check_holes(dir, &format)?;
        let clean = dir.join(CLEAN_FILE);
        let was_clean = match fs::remove_file(&clean) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            removed => {
                // Before anything changes: a crash from now on must not find it.
                removed.and_then(|()| sync_dir(dir)).map_err(|e| fail("remove", &clean, e))?;
                true
            }
        };
        Ok(Self { dir: dir.to_path_buf(), was_clean, _lock: lock })
    }

    /// Says durably that everything is in order.
    pub(crate) fn mark_clean(&self) -> io::Result<()> {
        open_private(&self.dir.join(CLEAN_FILE))?.sync_all()?;
        sync_dir(&self.dir)
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
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
        make_dir(&dir).map_err(|e| PoolError::io("create", &self.dir, &dir, e))?;
        private(&dir)?;
        Ok(dir)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Opens a file of ours for reading and writing, made private where it is missing; a link in its place is an error.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// Removes a blob's directory and the files in it that are ours.
pub(crate) fn discard_blob(dir: &Path) -> io::Result<()> {
    for name in BLOB_FILES {
        ignore_missing(fs::remove_file(dir.join(name)))?;
    }
    match fs::remove_dir(dir) {
        // Something that is not ours: it stays.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => ignore_missing(other),
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

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
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

/// Whether nothing is there but what a new filesystem has, and a `format` that says nothing yet.
fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name != LOST_AND_FOUND && name != "format" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The format version of a cache that is there; an error if the file of that name is not a cache's.
fn read_format(dir: &Path, path: &Path) -> Result<Option<u32>, PoolError> {
    let mut text = String::new();
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(meta) if !meta.is_file() => return Err(PoolError::NotACache(dir.to_path_buf())),
        other => other.map_err(|e| PoolError::io("examine", dir, path, e))?,
    };
    match File::open(path).and_then(|file| file.take(256).read_to_string(&mut text)) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(PoolError::NotACache(dir.to_path_buf())),
        other => other.map_err(|e| PoolError::io("read", dir, path, e))?,
    };
    if text.is_empty() {
        // A crash between making and writing it.
        return Ok(None);
    }
    let version = text.strip_prefix(FORMAT_NAME).and_then(|rest| rest.trim().parse().ok());
    version.map(Some).ok_or_else(|| PoolError::NotACache(dir.to_path_buf()))
}

fn write_format(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
    file.sync_all()
}

/// Tries what eviction will need.
fn check_holes(dir: &Path, format: &Path) -> Result<(), PoolError> {
    let probe = dir.join("probe");
    let result = open_private(&probe).and_then(|file| {
        file.set_len(1 << 20)?;
        punch(&file, 0, 1 << 20)
    });
    ignore_missing(fs::remove_file(&probe)).map_err(|e| PoolError::io("remove", dir, &probe, e))?;
    match result {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            Err(PoolError::NoHoles(dir.to_path_buf()))
        }
        other => other.map_err(|e| PoolError::io("punch a hole into a file beside", dir, format, e)),
    }
}

/// Frees a range of a file without changing its length: it reads as zeros.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?;
    Ok(())
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
    fn the_mark_of_an_orderly_end_is_good_for_one_start() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::open(root.path()).expect("open");
        assert!(!layout.was_clean);
        layout.mark_clean().expect("mark");
        drop(layout);
        let layout = Layout::open(root.path()).expect("open");
        assert!(layout.was_clean);
        drop(layout);
        assert!(!Layout::open(root.path()).expect("open").was_clean);
    }

    #[test]
    fn other_data_is_never_touched() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("home");
        fs::create_dir(&dir).expect("create");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::write(dir.join("thesis.tex"), "years").expect("write");
        assert!(matches!(Layout::open(&dir), Err(PoolError::NotACache(_))));
        assert_eq!(fs::metadata(&dir).expect("metadata").mode() & 0o7777, 0o755);
        fs::write(dir.join("format"), "A4").expect("write");
        assert!(matches!(Layout::open(&dir), Err(PoolError::NotACache(_))));
        assert!(matches!(Layout::open(&dir.join("thesis.tex")), Err(PoolError::NotADirectory(_))));
        assert!(matches!(Layout::open(&dir.join("none/such")), Err(PoolError::Missing(_))));
    }

    #[test]
    fn another_format_is_discarded_but_not_what_lies_beside() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("cache");
        let layout = Layout::open(&dir).expect("open");
        let blob = layout.blob_dir("b1").expect("blob directory");
        fs::write(blob.join("data"), "x").expect("write");
        fs::write(blob.join("notes"), "mine").expect("write");
        fs::write(layout.blob_dir("b2").expect("blob directory").join("data"), "x").expect("write");
        drop(layout);
        fs::write(dir.join("format"), "granary-cache 7\n").expect("write");
        Layout::open(&dir).expect("open");
        assert!(!blob.join("data").exists() && blob.join("notes").exists() && !dir.join("blobs/b2").exists());
        assert_eq!(fs::read_to_string(dir.join("format")).expect("read"), "granary-cache 1\n");
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
