//! How a source is doing, as all its readers see it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    RetryPolicy, SourceError,
    breaker::{Breaker, Refused, Trial},
    budget::Budget,
    slowdowns::Slowdowns,
};

/// What the reads of one source have seen of it.
#[derive(Debug)]
pub(crate) struct Health {
    uri: String,
    slowdowns: Slowdowns,
    breaker: Breaker,
    budget: Budget,
}

impl Health {
    pub(crate) fn new(uri: &str, slowdowns: Slowdowns) -> Self {
        Self { uri: uri.to_owned(), slowdowns, breaker: Breaker::default(), budget: Budget::default() }
    }

    /// Asks whether a request may be made. The error says when the next one is.
    pub(crate) fn admit(&self, policy: &RetryPolicy) -> Result<Trial, SourceError> {
        self.breaker.admit(policy).map_err(|refused| self.down(&refused))
    }

    /// A request brought bytes.
    pub(crate) fn gave(&self) {
        self.budget.succeeded();
        self.answered();
    }

    /// A request failed before it brought bytes worth mentioning.
    pub(crate) fn failed(&self, trial: Trial, error: &SourceError, policy: &RetryPolicy) {
        match error {
            SourceError::EndpointUnreachable { .. } | SourceError::Timeout { .. } | SourceError::Unavailable { .. } => {
                if self.breaker.failed(trial, error, policy) {
                    tracing::warn!(%error, "a source fails for long: its reads fail at once until it answers again");
                }
            }
            // Whatever it thinks of the request, it is there.
            SourceError::CredentialsRejected { .. }
            | SourceError::BucketNotFound { .. }
            | SourceError::ObjectChanged { .. }
            | SourceError::ObjectNotFound { .. }
            | SourceError::BadAnswer { .. }
            | SourceError::ChecksumMismatch { .. } => self.answered(),
            // These are found out here.
            SourceError::Invalid { .. }
            | SourceError::SecretNotFound { .. }
            | SourceError::SecretKeysMissing { .. }
            | SourceError::SourceDenied { .. }
            | SourceError::TooLarge { .. }
            | SourceError::Down { .. } => self.left(trial),
        }
    }

    /// A request ended before its outcome was known.
    pub(crate) fn left(&self, trial: Trial) {
        self.breaker.abandoned(trial);
    }

    /// How long a repetition has to wait for its turn; nothing if that is longer than `most`.
    pub(crate) fn turn(&self, most: Duration) -> Option<Duration> {
        self.budget.take(most)
    }

    /// The error of an answer that its reader did not wait for any longer, which is counted.
    pub(crate) fn timed_out(&self) -> SourceError {
        self.slowdowns.add();
        SourceError::Timeout { uri: self.uri.clone(), detail: "nothing came, or next to nothing".to_owned() }
    }

    pub(crate) fn slowdowns(&self) -> u64 {
        self.slowdowns.count()
    }

    fn answered(&self) {
        if self.breaker.succeeded() {
            tracing::info!(source = self.uri, "a source answers again");
        }
    }

    fn down(&self, refused: &Refused) -> SourceError {
        let when = match refused.next_try {
            None => "just now".to_owned(),
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                let second = Timestamp::now().as_second().saturating_add(wait.as_secs() as i64 + 1);
                Timestamp::from_second(second).map_or_else(|_| "soon".to_owned(), |at| format!("at {at}"))
            }
        };
        SourceError::Down { uri: self.uri.clone(), last: refused.last.detail().to_owned(), when }
    }
}
