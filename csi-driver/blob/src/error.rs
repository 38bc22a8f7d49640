//! What can go wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::origin::OriginErrorKind;

/// Why a pool or a blob in it cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Neither the directory nor its parent exists.
    #[error("cache directory {0} does not exist, nor does the directory above it: create it, or choose another path")]
    Missing(PathBuf),
    /// The path is something else than a directory.
    #[error("cache path {0} is not a directory: choose another path")]
    NotADirectory(PathBuf),
    /// Nothing can be written there.
    #[error("cache directory {0} cannot be written: mount its filesystem read-write, or choose another path")]
    ReadOnly(PathBuf),
    /// Not even the cache's own structure fits.
    #[error("cache directory {0} is on a full filesystem or quota: free space there, or choose another path")]
    Full(PathBuf),
    /// The limit or the filesystem holds less than a few parts.
    #[error(
        "cache directory {dir} may hold {bytes} bytes, and a cache needs {needed}: raise the limit or choose a larger filesystem"
    )]
    TooSmall {
        /// The pool's directory.
        dir: PathBuf,
        /// What it may hold, in bytes.
        bytes: u64,
        /// The least that makes sense, in bytes.
        needed: u64,
    },
    /// The free-space floor is no share of a filesystem.
    #[error("a free-space floor of {0} % leaves no room for a cache: choose less than 100")]
    BadFloor(u8),
    /// The directory has files that no cache made.
    #[error("directory {0} holds other data than a cache: choose an empty directory for the cache")]
    NotACache(PathBuf),
    /// Others may read or write the directory.
    #[error("{path} is not private to this user ({found}): it must be a directory of the running user with mode 0700")]
    NotPrivate {
        /// The offending path.
        path: PathBuf,
        /// Its owner and mode.
        found: String,
    },
    /// A pool cannot move.
    #[error("the cache is in {current} and cannot move to {wanted}: open another one there")]
    OtherDirectory {
        /// Where the pool is.
        current: PathBuf,
        /// Where the new settings want it.
        wanted: PathBuf,
    },
    /// Another process has the pool open.
    #[error("cache directory {0} is in use by another process: stop it, or choose another directory")]
    InUse(PathBuf),
    /// The filesystem cannot free the inside of a file.
    #[error("the filesystem of cache directory {0} cannot punch holes into files: use ext4, xfs, btrfs or tmpfs")]
    NoHoles(PathBuf),
    /// The blob's id could name something outside the pool.
    #[error("blob id {0:?} is not made of 1 to 64 letters, digits, dashes and underscores")]
    BadBlobId(String),
    /// Two extent tables claim one blob and disagree.
    #[error(
        "extent table of blob {0} continues neither the one in use nor is continued by it: the version was made from another listing"
    )]
    TableMismatch(String),
    /// The blob's file cannot be as long as the table says.
    #[error(
        "blob {id} of {bytes} bytes is larger than a file on this filesystem can be: choose another filesystem for the cache"
    )]
    BlobTooLarge {
        /// The blob.
        id: String,
        /// Its length in bytes.
        bytes: u64,
    },
    /// Anything else the filesystem said.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

impl PoolError {
    /// The error for a failed `action` on `path` inside the pool at `dir`.
    pub(crate) fn io(action: &'static str, dir: &Path, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly(dir.to_path_buf()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(dir.to_path_buf()),
            _ => Self::Io { action, path: path.to_path_buf(), source },
        }
    }
}

/// Why bytes of a blob could not be read. Never a sign that other bytes cannot be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The range does not lie inside the blob.
    #[error("bytes {offset}+{len} lie beyond the blob's {blob_bytes} bytes")]
    OutOfRange {
        /// Start of the read.
        offset: u64,
        /// Its length.
        len: u64,
        /// The blob's length.
        blob_bytes: u64,
    },
    /// The source has no such bytes, or not now.
    #[error("object {key:?} cannot be read: {message}")]
    Origin {
        /// Whether asking again can help.
        kind: OriginErrorKind,
        /// The origin's word for it.
        reason: String,
        /// The object's key below its source.
        key: String,
        /// The origin's sentence.
        message: String,
    },
    /// The cache's own file failed.
    #[error("cannot {action} the cache of blob {blob}: {message}")]
    Cache {
        /// What was attempted.
        action: &'static str,
        /// The blob.
        blob: String,
        /// What happened.
        message: String,
    },
    /// The pool was shut down while the read waited.
    #[error("the cache was shut down while a read waited for it")]
    Stopped,
}

impl ReadError {
    /// A CamelCase word to count by.
    pub fn reason(&self) -> &str {
        match self {
            Self::OutOfRange { .. } => "OutOfRange",
            Self::Origin { reason, .. } => reason,
            Self::Cache { .. } => "CacheFailed",
            Self::Stopped => "Stopped",
        }
    }

    /// True if bytes came that are not the object's: nothing of the answer may be used, and another one may be right.
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::Origin { kind: OriginErrorKind::Wrong, .. })
    }

    /// True if the object is not what was pinned any more.
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::Origin { kind: OriginErrorKind::Changed, .. })
    }
}
