//! How often a source said that it gets too many requests.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::StatusCode;

/// Counts over all clients of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slowdowns(Arc<AtomicU64>);

impl Slowdowns {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal if it means this.
    pub(crate) fn refused(&self, status: StatusCode, code: Option<&str>) {
        if matches!(status.as_u16(), 408 | 429 | 503 | 504) || matches!(code, Some("SlowDown" | "RequestTimeout")) {
            self.add();
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
