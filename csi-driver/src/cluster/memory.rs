//! What the API server said, and how long ago.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion};

/// A moment by two clocks: one stands still while the machine sleeps, the other can be set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago this was at `now`, by the clock that says more: nothing seems younger than it is.
    pub(super) fn age(&self, now: Self) -> Duration {
        let steady = now.steady.saturating_duration_since(self.steady);
        // A clock that was set back says nothing.
        steady.max(now.wall.duration_since(self.wall).unwrap_or_default())
    }
}

/// The last answers to questions of one kind, by what was asked.
pub(super) struct Answers<T>(HashMap<String, (Moment, T)>);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Answers<T> {
    /// Remembers what was answered to a question that was asked at `asked`, and forgets what is too old to be of use.
    pub(super) fn put(&mut self, question: &str, asked: Moment, answer: T, max_age: Duration) {
        self.0.retain(|_, (earlier, _)| earlier.age(asked) < max_age);
        self.0.insert(question.to_owned(), (asked, answer));
    }

    /// The last answer and its age at `now`, which is below `max_age`; or else the age of one that is too old, if there is one.
    pub(super) fn get(
        &self,
        question: &str,
        now: Moment,
        max_age: Duration,
    ) -> Result<(T, Duration), Option<Duration>> {
        let (asked, answer) = self.0.get(question).ok_or(None)?;
        let age = asked.age(now);
        if age < max_age { Ok((answer.clone(), age)) } else { Err(Some(age)) }
    }
}

/// What the API server said.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) datasets: Answers<Option<Dataset>>,
    pub(super) version: Answers<Option<DatasetVersion>>,
    pub(super) versions: Answers<Vec<DatasetVersion>>,
    pub(super) grants: Answers<Vec<DatasetGrant>>,
    pub(super) classes: Answers<Option<DataStorageClass>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(600);

    fn later(moment: Moment, steady: i64, wall: i64) -> Moment {
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        Moment {
            steady: moment.steady + seconds(steady),
            wall: if wall < 0 { moment.wall - seconds(wall) } else { moment.wall + seconds(wall) },
        }
    }

    #[test]
    fn an_answer_counts_below_its_bound_by_whichever_clock_says_more() {
        let asked = Moment::now();
        let mut answers = Answers::default();
        answers.put("q", asked, "yes", BOUND);
        for (steady, wall, counts) in [
            (0, 0, true),
            (599, 599, true),
            (600, 600, false),
            // The machine slept.
            (1, 600, false),
            // The clock was set back, or forth.
            (599, -86_400, true),
            (600, -86_400, false),
            (1, 86_400, false),
        ] {
            let found = answers.get("q", later(asked, steady, wall), BOUND);
            assert_eq!(found.is_ok(), counts, "{steady} s, and {wall} s by the clock on the wall");
        }
        assert_eq!(answers.get("other", asked, BOUND), Err(None));
        assert_eq!(answers.get("q", asked, Duration::ZERO), Err(Some(Duration::ZERO)), "no bound, no answer");
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_a_newer_answer_counts_anew() {
        let asked = Moment::now();
        let mut answers = Answers::default();
        answers.put("old", asked, 1, BOUND);
        answers.put("kept", later(asked, 500, 500), 1, BOUND);
        let now = later(asked, 700, 700);
        answers.put("new", now, 1, BOUND);
        assert_eq!(answers.get("old", now, BOUND), Err(None));
        assert_eq!(answers.get("kept", now, BOUND), Ok((1, Duration::from_secs(200))));
        answers.put("kept", now, 2, BOUND);
        assert_eq!(answers.get("kept", now, BOUND), Ok((2, Duration::ZERO)));
    }
}
