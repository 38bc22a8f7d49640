//! How many requests to a source may be repetitions: a source that fails gets no more than a bounded number of them, however
//! many readers it has.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Repetitions that can be made at once: as many as requests can be under way when a server restarts.
const BURST: f64 = 128.0;
/// Repetitions a second, whatever succeeds.
const PER_SECOND: f64 = 16.0;
/// And for each request that succeeded.
const PER_SUCCESS: f64 = 0.2;

/// A bucket of tokens, one for each repetition. It can be in debt: those who took what was not there yet wait for it, in the
/// order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    successes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: f64,
    /// When they were counted, and the successes by then.
    at: Option<Instant>,
    successes: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { tokens: BURST, at: None, successes: 0 }
    }
}

impl Budget {
    /// A request succeeded.
    pub(crate) fn succeeded(&self) {
        self.successes.fetch_add(1, Relaxed);
    }

    /// Takes a token. Gives the time until it is there, or nothing if that would be more than `most`.
    pub(crate) fn take(&self, most: Duration) -> Option<Duration> {
        let now = Instant::now();
        let successes = self.successes.load(Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let earned = passed.as_secs_f64() * PER_SECOND + successes.saturating_sub(state.successes) as f64 * PER_SUCCESS;
        state.tokens = (state.tokens + earned).min(BURST);
        (state.at, state.successes) = (Some(now), successes);
        let wait = Duration::from_secs_f64((1.0 - state.tokens).max(0.0) / PER_SECOND);
        if wait > most {
            return None;
        }
        state.tokens -= 1.0;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How many repetitions can be made at once.
    fn at_once(budget: &Budget) -> usize {
        (0..10_000).take_while(|_| budget.take(Duration::ZERO).is_some()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn repetitions_are_bounded_by_time_and_by_what_succeeds() {
        let budget = Budget::default();
        assert_eq!(at_once(&budget), BURST as usize);
        advance(Duration::from_secs(1)).await;
        assert_eq!(at_once(&budget), PER_SECOND as usize);
        (0..100).for_each(|_| budget.succeeded());
        assert_eq!(at_once(&budget), 20);
        advance(60 * MINUTE).await;
        assert_eq!(at_once(&budget), BURST as usize, "what is not used is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_none_waits_for_his_turn_if_it_comes_in_time() {
        let budget = Budget::default();
        at_once(&budget);
        let waits: Vec<_> = (0..32).map(|_| budget.take(MINUTE).unwrap()).collect();
        assert!(waits.is_sorted() && waits[0] > Duration::ZERO);
        assert_eq!(waits[31], Duration::from_secs(2));
        assert_eq!(budget.take(Duration::from_secs(2)), None);
        assert_eq!(budget.take(MINUTE), Some(Duration::from_secs_f64(33.0 / PER_SECOND)), "a refusal costs nothing");
    }
}
