//! Why a reconcile could not be finished; it is repeated.

use std::io;

/// Why a reconcile could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or did not answer.
    #[error("{attempt}: {source}")]
    Api {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The image store's volume failed.
    #[error("image store: {0}")]
    Store(#[from] io::Error),
    /// An object of ours could not be written as JSON.
    #[error("made an object that Kubernetes does not have: {0}")]
    Json(#[from] serde_json::Error),
    /// Something old has to go first.
    #[error("waiting for {0} to be gone")]
    Waits(String),
}

impl ReconcileError {
    /// For `map_err`: the API server failed this attempt.
    pub fn api(attempt: &'static str) -> impl Fn(kube::Error) -> Self {
        move |source| Self::Api { attempt, source: Box::new(source) }
    }

    /// Whether somebody else was quicker: nothing to worry about, the next try sees it.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Api { source, .. } => matches!(source.as_ref(), kube::Error::Api(status) if status.code == 409),
            Self::Waits(_) => true,
            Self::Store(_) | Self::Json(_) => false,
        }
    }
}
