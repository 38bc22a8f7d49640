//! What can go wrong between a client and the image store.

use std::error::Error;
use std::path::{Path, PathBuf};

/// The image store did not do what it was asked. No text has a credential: tokens travel in a header, which is never printed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file that belongs to the client.
    #[error("cannot {action} '{}': {error}", .path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The certificate authority cannot be used.
    #[error("the certificate authority of the image store is of no use: {0}")]
    Authority(String),
    /// The store is not there, or the connection broke.
    #[error("the image store (granary-operator) cannot be reached: {0}")]
    Unreachable(String),
    /// It said no.
    #[error("the image store (granary-operator) answered {status} for {path}: {message}")]
    Refused {
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It cannot be decompressed.
    #[error("what the image store (granary-operator) sent for {path} is of no use: {problem}")]
    Coding {
        /// What was asked for.
        path: String,
        /// Why.
        problem: String,
    },
    /// Another length than expected.
    #[error("the image store (granary-operator) sent {found} bytes or more of {expected}")]
    Length {
        /// In bytes.
        expected: u64,
        /// In bytes.
        found: u64,
    },
}

impl StoreError {
    pub(super) fn file(action: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::File { action, path: path.to_owned(), error }
    }

    /// The message of an HTTP error says little; what caused it says what to do.
    pub(super) fn broken(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Self::Unreachable(text)
    }

    /// The HTTP status with which the store said no.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::File { .. }
            | Self::Authority(_)
            | Self::Unreachable(_)
            | Self::Coding { .. }
            | Self::Length { .. } => None,
        }
    }

    /// Whether the same may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            // A body that ends too early; the token and the authority's certificate may be renewed at this moment.
            Self::Unreachable(_) | Self::Length { .. } | Self::Authority(_) | Self::File { .. } => true,
            // The store checked it when it came, and TLS since then: it is damaged where it lies.
            Self::Coding { .. } => false,
            Self::Refused { status, .. } => matches!(status, 401 | 408 | 425 | 429 | 500 | 502..=504),
        }
    }
}
