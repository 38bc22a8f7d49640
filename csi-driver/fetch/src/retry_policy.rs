//! How long and how often a read is tried.

use std::time::Duration;

/// How long and how often a read is tried. Every limit that is not here is in `budget`: it is one for all readers of a source.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// From the first request, or from the last progress, to giving up: a stream that is slow is not cut off.
    pub deadline: Duration,
    /// Longest wait for an answer, or for the next [`Self::least_bytes`] of it. What the reader itself takes is not counted.
    pub stall: Duration,
    /// What is progress: so many bytes, or all that is left.
    pub least_bytes: u64,
    /// Wait before the second try; doubles with each further one that brought no progress, and is drawn between half and all of
    /// it.
    pub first_backoff: Duration,
    /// Longest wait between two tries.
    pub max_backoff: Duration,
    /// How often a refusal of the credentials or a wrong answer is tried again: services refuse for a moment after keys were
    /// rotated, and some under load, but mostly either is meant.
    pub refusals: u32,
    /// The source is left alone after so many tries in a row, by all its readers, that brought no progress,
    pub failures: u32,
    /// if they took as long. A shorter outage is waited out.
    pub outage: Duration,
    /// Until a source that is left alone is tried again; doubles with each further try that fails, and is drawn between half
    /// and all of it.
    pub first_pause: Duration,
    /// Longest time until it is tried again.
    pub max_pause: Duration,
}

impl RetryPolicy {
    /// For data that somebody waits for.
    pub const DEFAULT: Self = Self {
        deadline: Duration::from_secs(60),
        stall: Duration::from_secs(15),
        least_bytes: 16 << 10,
        first_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        refusals: 3,
        failures: 5,
        outage: Duration::from_secs(60),
        first_pause: Duration::from_secs(5),
        max_pause: Duration::from_secs(30),
    };
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Between half and all of `most`, so that those who failed together do not come back together.
pub(crate) fn jittered(most: Duration) -> Duration {
    most.mul_f64(rand::random_range(0.5..=1.0))
}
