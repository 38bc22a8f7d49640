//! How long a Lease has been seen as it is.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The state in which the Lease was seen last, and since when it is seen in that state.
#[derive(Default)]
pub(super) struct Sighting(Mutex<Option<(String, Instant)>>);

impl Sighting {
    /// How long the Lease is certainly unchanged that has this resource version, in an answer that was asked for at `asked` and came at
    /// `heard`: from the first answer that had it, to the last question.
    pub(super) fn unchanged(&self, version: Option<&str>, asked: Instant, heard: Instant) -> Duration {
        let mut seen = self.0.lock();
        match (seen.as_ref(), version) {
            (Some((known, since)), Some(version)) if known == version => asked.saturating_duration_since(*since),
            (_, version) => {
                *seen = version.map(|version| (version.to_owned(), heard));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_seen_counts_and_a_change_begins_anew() {
        let begun = Instant::now();
        let at = |second: u64| begun + Duration::from_secs(second);
        let sighting = Sighting::default();
        for (version, asked, heard, seconds) in [
            (Some("1"), 0, 5, 0),
            // From the first answer to the second question.
            (Some("1"), 8, 12, 3),
            (Some("1"), 20, 20, 15),
            (Some("2"), 21, 21, 0),
            (Some("2"), 30, 30, 9),
            (None, 31, 31, 0),
            (Some("2"), 32, 32, 0),
            (Some("2"), 34, 34, 2),
        ] {
            let unchanged = sighting.unchanged(version, at(asked), at(heard));
            assert_eq!(unchanged, Duration::from_secs(seconds), "{version:?} at {asked} s");
        }
    }
}
