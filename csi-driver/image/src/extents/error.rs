use std::{io, path::PathBuf};

use super::format::MAX_BLOB_BYTES;

/// Why an extent table could not be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file could not be opened or mapped.
    #[error("extent table {path}: {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The table could not be written.
    #[error("writing an extent table: {0}")]
    Write(#[from] io::Error),
    /// The bytes do not begin as an extent table does.
    #[error("no extent table: it does not begin with its magic number")]
    NotATable,
    /// The table is of a format that this release does not know.
    #[error("extent table of format {0}: this release reads format 1; use a newer one")]
    UnknownFormat(u32),
    /// The table is damaged: fetch or build it again.
    #[error("damaged extent table: {0}")]
    Damaged(&'static str),
    /// The blob would be larger than one device can be.
    #[error(
        "the objects need more than {MAX_BLOB_BYTES} bytes, which is all that one dataset can hold: split it with include, exclude or several datasets"
    )]
    TooLarge,
    /// A zero-byte object takes no extent.
    #[error("object '{0}' is empty and takes no extent")]
    EmptyObject(String),
    /// The blob id is not fit to be a directory's name.
    #[error("'{0}' is no blob id: 1 to 63 letters, digits, '-' and '_'")]
    BlobId(String),
}
