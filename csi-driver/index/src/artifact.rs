use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use granary_image::Digest;
use tempfile::NamedTempFile;

use crate::IndexError;

/// A stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Where it is: the digest's hex digits and an extension.
    pub path: PathBuf,
    /// Its content address.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Writes a file that is there completely and durably, or not at all, under the name that its digest gives it.
pub(crate) fn store<S>(
    dir: &Path,
    extension: &str,
    write: impl FnOnce(&mut File) -> Result<(Digest, u64, S), IndexError>,
) -> Result<(Artifact, S), IndexError> {
    let failed = |source: io::Error| IndexError::Store { dir: dir.to_owned(), source };
    let mut file = NamedTempFile::new_in(dir).map_err(failed)?;
    let (digest, bytes, summary) = write(file.as_file_mut())?;
    file.as_file().sync_all().map_err(failed)?;
    let path = dir.join(format!("{}.{extension}", digest.hex()));
    file.persist(&path).map_err(|error| failed(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok((Artifact { path, digest, bytes }, summary))
}
