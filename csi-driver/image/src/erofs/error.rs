use std::{io, path::PathBuf};

/// Why an image could not be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be opened or mapped.
    #[error("image {path}: {source}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image could not be written.
    #[error("writing an image: {0}")]
    Write(#[from] io::Error),
    /// Not an image of Granary, or a damaged one.
    #[error("damaged image: {0}")]
    Damaged(&'static str),
    /// The path has an empty, overlong or reserved part, or a NUL.
    #[error("'{0}' is no path of a file")]
    Path(String),
    /// Paths must come in byte order, each once.
    #[error("'{0}' is out of order: paths must be added in ascending byte order")]
    Order(String),
    /// The path, or a folder above it, is there already as the other of file and folder.
    #[error("'{0}' is both a file and a folder")]
    FileAndFolder(String),
    /// A file's place is not a whole number of blocks, or not within the blob.
    #[error("'{0}' lies outside of the blob")]
    Place(String),
    /// The blob ends before the last file does, or within a block.
    #[error("a blob of {blob_bytes} bytes cannot hold the files: they need {needed} bytes, and whole blocks")]
    BlobLength {
        /// What was given.
        blob_bytes: u64,
        /// Where the last file ends.
        needed: u64,
    },
    /// There are more files, names or blocks than an image can hold.
    #[error("the dataset is too large for one image: split it with include, exclude or several datasets")]
    TooLarge,
}
