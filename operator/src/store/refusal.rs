//! Why a request is refused, and as which HTTP status.

use std::io;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use granary_crds::exchange::Problem;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What was sent is wrong.
    #[error("{0}")]
    Bad(String),
    /// No token, or not a valid one.
    #[error("a token of audience 'granary' is needed")]
    Unauthenticated,
    /// A valid token of somebody who may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Not there (any more).
    #[error("{0}")]
    NotFound(String),
    /// Somebody was quicker.
    #[error("{0}")]
    Conflict(String),
    /// An artifact is too large.
    #[error("{0}")]
    TooLarge(String),
    /// A content coding that is not taken.
    #[error("the Content-Encoding '{0}' is not known here: send zstd, or the bytes as they are")]
    Coding(String),
    /// The store's volume has no space left.
    #[error("the image store is full: enlarge its volume, or lower revisionHistoryLimit")]
    Full,
    /// Our fault; it is logged, and not told.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Internal(format!("image store: {error}")),
        }
    }
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        Self::Internal(format!("API server: {error}"))
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(format!("made an object that Kubernetes does not have: {error}"))
    }
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Coding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = match &self {
            Self::Internal(_) => {
                tracing::error!(error = %self, "request failed");
                "the operator could not do this; its log says why. Try again".to_owned()
            }
            _ => self.to_string(),
        };
        tracing::debug!(status = %self.status(), message, "request refused");
        (self.status(), Json(Problem { message })).into_response()
    }
}
