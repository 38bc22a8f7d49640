//! What can go wrong when a version is mounted, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use granary_blob::PoolError;
use granary_fetch::SourceError;
use granary_image::{Digest, ImageError, TableError};

/// Why a version could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The kernel lacks something.
    #[error("this kernel cannot mount datasets: {0}")]
    Unsupported(String),
    /// The manifest contradicts itself or its artifacts.
    #[error("version {version} cannot be mounted: {message}")]
    Invalid {
        /// The version's name.
        version: String,
        /// What is wrong.
        message: String,
    },
    /// An image or extent table could not be had.
    #[error("{digest} could not be fetched: {message}")]
    Artifact {
        /// What was asked for.
        digest: Digest,
        /// What happened.
        message: String,
    },
    /// What was fetched is not what was asked for.
    #[error("the image store gave other bytes for {digest}: got {found}")]
    WrongDigest {
        /// What was asked for.
        digest: Digest,
        /// What came.
        found: Digest,
    },
    /// The image is damaged or hostile.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The extent table is damaged or hostile.
    #[error(transparent)]
    Table(#[from] TableError),
    /// No cache of that name was opened.
    #[error("there is no cache for class '{0}' on this node: check that the DataStorageClass exists")]
    UnknownPool(String),
    /// The cache cannot be used.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A source cannot be used here.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another filesystem is mounted at the target.
    #[error("{target} has something else mounted ({found}): unmount it first", target = target.display())]
    Occupied {
        /// Where the version shall appear.
        target: PathBuf,
        /// Filesystem type and source of what is there.
        found: String,
    },
    /// The state directory belongs to a process that runs.
    #[error("{0} is in use by another process: stop it, or choose another directory")]
    InUse(PathBuf),
    /// Others may read or write the state directory.
    #[error("{path} is not private ({found}): it must be a directory of the running user with mode 0700", path = path.display())]
    NotPrivate {
        /// The offending path.
        path: PathBuf,
        /// Its owner and mode.
        found: String,
    },
    /// The server was stopped.
    #[error("the server is stopping")]
    Stopped,
    /// Anything else the system said.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

impl ServeError {
    /// Turns what the system said about `action` on `path` into an error.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source: source.into() }
    }
}
