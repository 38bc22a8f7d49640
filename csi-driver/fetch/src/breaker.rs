//! Leaves a source alone that has failed for long: its readers are told at once instead of waiting for it one by one, and one
//! request now and then finds out whether it answers again.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{RetryPolicy, SourceError, retry_policy::jittered};

/// Counts failures in a row, and is open after too many in too long a time.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Failures since the last success. While they are few, requests look at nothing else.
    failures: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the first try of those that failed began.
    since: Option<Instant>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// When one request is let through.
    next_try: Instant,
    /// How long that was after the last failure, at most.
    wait: Duration,
    /// Whether one is under way.
    is_tried: bool,
    last: SourceError,
}

/// A request that was let through, whose outcome is to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    begun: Instant,
    /// Whether it is the one that finds out whether an open breaker may be closed.
    is_probe: bool,
}

/// A request that must not be made.
#[derive(Debug)]
pub(crate) struct Refused {
    /// How the last one failed.
    pub(crate) last: SourceError,
    /// When the next one is made; `None` if it is under way.
    pub(crate) next_try: Option<Instant>,
}

impl Breaker {
    /// Asks whether a request may be made.
    pub(crate) fn admit(&self, policy: &RetryPolicy) -> Result<Trial, Refused> {
        let begun = Instant::now();
        if self.failures.load(Relaxed) < policy.failures {
            return Ok(Trial { begun, is_probe: false });
        }
        match &mut self.state().open {
            None => Ok(Trial { begun, is_probe: false }),
            Some(open) if open.is_tried => Err(Refused { last: open.last.clone(), next_try: None }),
            Some(open) if begun < open.next_try => {
                Err(Refused { last: open.last.clone(), next_try: Some(open.next_try) })
            }
            Some(open) => {
                open.is_tried = true;
                Ok(Trial { begun, is_probe: true })
            }
        }
    }

    /// A request brought what it should, or at least an answer. Tells whether the breaker was open.
    pub(crate) fn succeeded(&self) -> bool {
        if self.failures.load(Relaxed) == 0 {
            return false;
        }
        let mut state = self.state();
        self.failures.store(0, Relaxed);
        std::mem::take(&mut *state).open.is_some()
    }

    /// A request brought nothing. Tells whether the breaker is open since this moment.
    pub(crate) fn failed(&self, trial: Trial, error: &SourceError, policy: &RetryPolicy) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let failures = self.failures.load(Relaxed).saturating_add(1);
        self.failures.store(failures, Relaxed);
        let since = state.since.map_or(trial.begun, |since| since.min(trial.begun));
        state.since = Some(since);
        match &mut state.open {
            Some(open) if trial.is_probe => {
                open.wait = open.wait.saturating_mul(2).min(policy.max_pause);
                (open.next_try, open.is_tried, open.last) = (now + jittered(open.wait), false, error.clone());
                false
            }
            // It began before the breaker opened.
            Some(_) => false,
            None if failures >= policy.failures && now - since >= policy.outage => {
                let wait = policy.first_pause;
                let next_try = now + jittered(wait);
                state.open = Some(Open { next_try, wait, is_tried: false, last: error.clone() });
                true
            }
            None => false,
        }
    }

    /// A request ended and nothing was learned: its reader left, or it was never sent.
    pub(crate) fn abandoned(&self, trial: Trial) {
        if trial.is_probe
            && let Some(open) = &mut self.state().open
        {
            open.is_tried = false;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        failures: 3,
        outage: Duration::from_secs(60),
        first_pause: Duration::from_secs(5),
        max_pause: Duration::from_secs(15),
        ..RetryPolicy::DEFAULT
    };

    fn error(detail: &str) -> SourceError {
        SourceError::Unavailable { uri: String::new(), detail: detail.to_owned() }
    }

    /// A request that fails after a time; whether that opened the breaker. `None` if it was not let through.
    async fn fail(breaker: &Breaker, after: u64) -> Option<bool> {
        let trial = breaker.admit(&POLICY).ok()?;
        advance(Duration::from_secs(after)).await;
        Some(breaker.failed(trial, &error("broke"), &POLICY))
    }

    async fn open() -> Breaker {
        let breaker = Breaker::default();
        assert_eq!(fail(&breaker, 30).await, Some(false));
        assert_eq!(fail(&breaker, 20).await, Some(false));
        assert_eq!(fail(&breaker, 15).await, Some(true));
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_that_are_many_and_take_long() {
        let breaker = Breaker::default();
        for _ in 0..50 {
            assert_eq!(fail(&breaker, 1).await, Some(false), "many, and not for long");
        }
        breaker.succeeded();
        assert_eq!(fail(&breaker, 100).await, Some(false), "long, and not many");
        assert_eq!(fail(&breaker, 100).await, Some(false));
        assert!(!breaker.succeeded(), "it was not open");
        let breaker = open().await;
        let refused = breaker.admit(&POLICY).unwrap_err();
        assert_eq!(refused.last, error("broke"));
        assert!(refused.next_try.is_some_and(|at| at > Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_finds_out_and_waits_get_longer() {
        let breaker = open().await;
        for most in [5, 10, 15, 15] {
            advance(Duration::from_secs(most).mul_f64(0.4)).await;
            assert!(breaker.admit(&POLICY).is_err());
            advance(Duration::from_secs(most).mul_f64(0.7)).await;
            let probe = breaker.admit(&POLICY).unwrap();
            assert!(breaker.admit(&POLICY).unwrap_err().next_try.is_none(), "one at a time");
            assert!(!breaker.failed(probe, &error("again"), &POLICY));
            assert_eq!(breaker.admit(&POLICY).unwrap_err().last, error("again"));
        }
        advance(Duration::from_secs(20)).await;
        breaker.admit(&POLICY).unwrap();
        assert!(breaker.succeeded());
        for _ in 0..10 {
            breaker.admit(&POLICY).unwrap();
        }
        assert_eq!(fail(&breaker, 100).await, Some(false), "it counts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_reader_left_is_made_by_the_next() {
        let breaker = open().await;
        advance(Duration::from_secs(6)).await;
        let probe = breaker.admit(&POLICY).unwrap();
        assert!(breaker.admit(&POLICY).is_err());
        breaker.abandoned(probe);
        breaker.admit(&POLICY).unwrap();
        assert!(breaker.admit(&POLICY).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_it_opened_decides_nothing_but_by_success() {
        let breaker = Breaker::default();
        let late = breaker.admit(&POLICY).unwrap();
        for _ in 0..2 {
            fail(&breaker, 40).await;
        }
        assert_eq!(fail(&breaker, 0).await, Some(true));
        let before = breaker.admit(&POLICY).unwrap_err().next_try;
        assert!(!breaker.failed(late, &error("late"), &POLICY));
        assert_eq!(breaker.admit(&POLICY).unwrap_err().next_try, before);
        assert!(breaker.succeeded());
        breaker.admit(&POLICY).unwrap();
    }
}
