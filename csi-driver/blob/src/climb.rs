//! How many requests at once a source gives most for: a climb on its throughput.

use std::time::Duration;

/// Where the climb starts: enough for a source nearby.
pub(crate) const START: usize = 16;
const FEWEST: usize = 4;
/// Each request has some hundred KiB of its answer in memory.
const MOST: usize = 128;
/// A step that brings less than this share more was for nothing.
const GAIN: f64 = 1.05;
/// Measurements after a step for nothing, or after the source asked to be spared, before the next step.
const REST: u32 = 20;

/// Finds the number of requests at once, from one measurement to the next.
#[derive(Debug)]
pub(crate) struct Climb {
    limit: usize,
    /// The limit and the bytes a second before the last step up.
    before: Option<(usize, f64)>,
    rest: u32,
}

impl Default for Climb {
    fn default() -> Self {
        Self { limit: START, before: None, rest: 0 }
    }
}

impl Climb {
    /// Requests at once.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// What `bytes` in `time` mean for the limit, which they were measured under. `full` says that requests had to wait;
    /// `slower`, that the source asked for fewer.
    pub(crate) fn measured(&mut self, bytes: u64, time: Duration, full: bool, slower: bool) {
        if slower {
            self.limit = (self.limit * 2 / 3).max(FEWEST);
            (self.before, self.rest) = (None, REST);
            return;
        }
        let rate = bytes as f64 / time.as_secs_f64().max(1e-6);
        if let Some((limit, earlier)) = self.before.take()
            && rate < earlier * GAIN
        {
            (self.limit, self.rest) = (limit, REST);
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
        } else if full && self.limit < MOST {
            self.before = Some((self.limit, rate));
            self.limit = (self.limit * 3 / 2).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit after measurements of a source that gives `rate(limit)` bytes a second.
    fn settle(climb: &mut Climb, measurements: u32, rate: impl Fn(usize) -> u64) -> usize {
        for _ in 0..measurements {
            climb.measured(rate(climb.limit()), Duration::from_secs(1), true, false);
        }
        climb.limit()
    }

    #[test]
    fn a_distant_source_gets_as_many_as_help() {
        assert_eq!(settle(&mut Climb::default(), 30, |limit| limit as u64 * 1000), MOST);
        let capped = settle(&mut Climb::default(), 30, |limit| limit.min(50) as u64 * 1000);
        assert!((50..=81).contains(&capped), "{capped}");
    }

    #[test]
    fn more_is_not_asked_of_a_source_that_gives_no_more() {
        assert_eq!(settle(&mut Climb::default(), 15, |_| 1_000_000), START);
    }

    #[test]
    fn a_source_that_asks_for_less_gets_less_and_is_left_alone_for_a_while() {
        let mut climb = Climb::default();
        settle(&mut climb, 30, |limit| limit as u64 * 1000);
        climb.measured(1000, Duration::from_secs(1), true, true);
        let less = climb.limit();
        assert!(less < MOST);
        assert_eq!(settle(&mut climb, REST - 1, |limit| limit as u64 * 1000), less);
        assert!(settle(&mut climb, 20, |limit| limit as u64 * 1000) > less);
        (0..20).for_each(|_| climb.measured(1000, Duration::from_secs(1), true, true));
        assert_eq!(climb.limit(), FEWEST);
    }

    #[test]
    fn without_demand_for_more_there_is_no_step() {
        let mut climb = Climb::default();
        (0..50).for_each(|_| climb.measured(1000, Duration::from_secs(1), false, false));
        assert_eq!(climb.limit(), START);
    }
}
