//! The file that says that a directory is a cache, and of which format.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::disk::{self, CacheFile};
use crate::error::PoolError;

pub(super) const FILE: &str = "format";
pub(super) const BLOBS: &str = "blobs";
pub(super) const PROBE: &str = "probe";
const NAME: &str = "granary-cache";
const VERSION: u32 = 1;
/// Longer than any that a cache writes.
const MOST: u64 = 64;
/// What a cache's directory holds, and what `mkfs` makes at the root of a new filesystem.
const NAMES: [&str; 5] = [FILE, BLOBS, PROBE, super::clean::FILE, "lost+found"];

/// What a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A cache of this format.
    Ours,
    /// Empty, or left so by a crash while it was made.
    Nothing,
    /// A cache of another format.
    Other(u32),
    /// A cache whose format cannot be read.
    Damaged,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("of this format"),
            Self::Nothing => f.write_str("empty"),
            Self::Other(version) => write!(f, "of format {version}, and this release has {VERSION}"),
            Self::Damaged => f.write_str("its file 'format' is damaged"),
        }
    }
}

/// What `dir` is by its file at `path`; an error if it is no cache's directory.
pub(super) fn read(dir: &Path, path: &Path) -> Result<Found, PoolError> {
    let not_ours = || PoolError::NotACache(dir.to_path_buf());
    let io = |action, e| PoolError::io(action, dir, path, e);
    let mut bytes = Vec::new();
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Ok(meta) if !meta.is_file() || meta.len() > MOST => return Err(not_ours()),
        Ok(_) => {
            let read = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
            read.map_err(|e| io("read", e))?;
        }
        Err(e) => return Err(io("examine", e)),
    }
    match parse(&bytes) {
        Some(VERSION) => return Ok(Found::Ours),
        Some(version) => return Ok(Found::Other(version)),
        None => {}
    }
    let names = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let names: Vec<_> = names.map_err(|e| PoolError::io("list", dir, dir, e))?;
    if !names.iter().all(|name| NAMES.iter().any(|known| name == known)) {
        return Err(not_ours());
    }
    match names.iter().any(|name| name == BLOBS) {
        false if bytes.iter().all(|&byte| byte == 0) => Ok(Found::Nothing),
        _ => Ok(Found::Damaged),
    }
}

fn parse(bytes: &[u8]) -> Option<u32> {
    // One that was written over a longer one ends with its line.
    let line = bytes.split(|&byte| byte == b'\n').next()?;
    let number = str::from_utf8(line).ok()?.strip_prefix(NAME)?.strip_prefix(' ')?;
    number.parse().ok()
}

/// Writes the format in place, so that a crash leaves the one before or this one; durable when this returns.
pub(super) fn write(dir: &Path, file: &CacheFile) -> io::Result<()> {
    let line = format!("{NAME} {VERSION}\n");
    file.write_all_at(line.as_bytes(), 0)?;
    file.sync_data()?;
    file.set_len(line.len() as u64)?;
    file.sync_data()?;
    disk::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use crate::layout::Layout;

    use super::*;

    fn made() -> (tempfile::TempDir, std::path::PathBuf) {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("cache");
        let layout = Layout::open(&dir).expect("open");
        let blob = layout.blob_dir("b1").expect("blob directory");
        fs::write(blob.join("data"), "x").expect("write");
        fs::write(blob.join("notes"), "mine").expect("write");
        fs::write(layout.blob_dir("b2").expect("blob directory").join("data"), "x").expect("write");
        (root, dir)
    }

    #[test]
    fn other_data_is_never_touched() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};

        let root = tempfile::tempdir().expect("temporary directory");
        let dir = root.path().join("home");
        fs::create_dir(&dir).expect("create");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::write(dir.join("thesis.tex"), "years").expect("write");
        assert!(matches!(Layout::open(&dir), Err(PoolError::NotACache(_))));
        assert_eq!(fs::metadata(&dir).expect("metadata").mode() & 0o7777, 0o755);
        fs::write(dir.join("format"), "A4").expect("write");
        assert!(matches!(Layout::open(&dir), Err(PoolError::NotACache(_))));
        assert_eq!(fs::read(dir.join("format")).expect("read"), b"A4");
        assert!(matches!(Layout::open(&dir.join("thesis.tex")), Err(PoolError::NotADirectory(_))));
        assert!(matches!(Layout::open(&dir.join("none/such")), Err(PoolError::Missing(_))));
    }

    #[test]
    fn another_format_or_none_that_can_be_read_is_discarded_but_not_what_lies_beside() {
        let formats: [&[u8]; 6] = [
            b"granary-cache 7\n",
            b"granary-cache 4294967295\n",
            b"",
            b"granary-cac\0\0\0\0\0",
            b"granary-cache x\n",
            &[0xb7; 40],
        ];
        for format in formats {
            let (_root, dir) = made();
            fs::write(dir.join(FILE), format).expect("write");
            let log = crate::logged::logged(|| drop(Layout::open(&dir).expect("open")));
            let wanted = if format == formats[0] { "of format 7, and this release has 1" } else { "discarding" };
            assert!(log.contains(wanted), "{format:?}: {log:?}");
            assert!(!dir.join("blobs/b1/data").exists() && !dir.join("blobs/b2").exists());
            assert!(dir.join("blobs/b1/notes").exists());
            assert_eq!(fs::read_to_string(dir.join(FILE)).expect("read"), "granary-cache 1\n");
            assert_eq!(crate::logged::logged(|| drop(Layout::open(&dir).expect("open"))), "");
        }
    }
}
