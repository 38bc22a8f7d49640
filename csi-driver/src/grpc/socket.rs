//! The Unix sockets on which the services are reached. Whoever reaches them can mount, so only root may.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Others could put another socket in its place.
    #[error("directory '{path}' has mode {mode:o} and owner {owner}: only this user may write there (chmod go-w {path})", path = .path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// Something else is in its place.
    #[error("'{}' is in the way and is no socket: remove it", .0.display())]
    NotASocket(PathBuf),
    /// The file system refused.
    #[error("cannot {action} '{}': {error}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
}

/// Listens at `path`, where a predecessor's socket may lie. The directory is made, if need be, with mode 0700; one that is there must be
/// the caller's, and nobody else's to write to. The socket gets mode 0600.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |error| SocketError::Io { action, path, error }
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create directory", directory))?;
    let found = fs::metadata(directory).map_err(failed("look at directory", directory))?;
    let owner = found.uid();
    if found.mode() & 0o022 != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(SocketError::Open { path: directory.to_owned(), mode: found.mode() & 0o7777, owner });
    }
    match fs::symlink_metadata(path) {
        Ok(stale) if stale.file_type().is_socket() => {
            fs::remove_file(path).map_err(failed("remove the stale socket", path))?
        }
        Ok(_) => return Err(SocketError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at", path)(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("restrict", path))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_only_its_owner_may_connect() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("plugins/driver/csi.sock");
        drop(listen(&path).unwrap());
        assert!(path.exists(), "a dead process leaves its socket");
        let _listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_directory_that_others_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("open");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o775)).unwrap();
        assert!(matches!(listen(&directory.join("csi.sock")), Err(SocketError::Open { mode: 0o775, .. })));
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("csi.sock");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
