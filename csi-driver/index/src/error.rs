use std::{io, path::PathBuf};

use granary_fetch::SourceError;
use granary_image::{Digest, ImageError, TableError};

/// Why a version could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A source could not be listed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file has other content than the Dataset states.
    #[error(
        "'{}' of source '{uri}' has the digest {found}, but http.files states {expected}: correct the digest in the Dataset if the file is right, or put the right file back", path.escape_debug()
    )]
    Digest {
        /// The source.
        uri: String,
        /// The file's path in `http.files`.
        path: String,
        /// What the Dataset states.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
    /// A source's place in the dataset is no relative path.
    #[error(
        "source path '{0}' is no directory of a dataset: write a relative path such as 'train/images', without '.', '..' or empty parts"
    )]
    Path(String),
    /// Two sources would be mixed.
    #[error(
        "the sources' paths '{0}' and '{1}' overlap: with several sources each needs its own path, none inside another"
    )]
    Overlap(String, String),
    /// The objects do not fit into one blob, or the table could not be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The files do not fit into one image, or it could not be made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An artifact could not be stored.
    #[error("storing an artifact in {dir}: {source}", dir = dir.display())]
    Store {
        /// Where it should have been.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl IndexError {
    /// A reason for the condition about the source.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Source(error) => error.reason(),
            Self::Digest { .. } => "DigestMismatch",
            Self::Path(_) | Self::Overlap(..) => "SourceInvalid",
            Self::Table(TableError::TooLarge) | Self::Image(ImageError::TooLarge) => "TooLarge",
            Self::Table(_) | Self::Image(_) | Self::Store { .. } => "IndexingFailed",
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Digest { .. }
            | Self::Path(_)
            | Self::Overlap(..)
            | Self::Table(TableError::TooLarge)
            | Self::Image(ImageError::TooLarge) => false,
            Self::Table(_) | Self::Image(_) | Self::Store { .. } => true,
        }
    }
}
