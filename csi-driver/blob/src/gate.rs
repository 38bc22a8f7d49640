//! How many requests a blob has at its origin at once, and whose turn it is: readers that wait come before what is fetched
//! ahead, and what is fetched ahead leaves some places free for readers to come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::climb::Climb;
use crate::sync::Mutex;

/// A measurement of the throughput takes at least as long, and as many answers as there are places.
const MEASURE: Duration = Duration::from_millis(100);

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A reader waits for it.
    Demand,
    /// Nobody waits for it yet.
    Ahead,
}

/// The places of one blob.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    climb: Climb,
    taken: usize,
    demand: VecDeque<oneshot::Sender<Place>>,
    ahead: VecDeque<oneshot::Sender<Place>>,
    meter: Meter,
}

/// What came since the last measurement.
#[derive(Default)]
struct Meter {
    since: Option<Instant>,
    bytes: u64,
    answers: usize,
    full: bool,
    /// The origin's count when it was measured last.
    slowdowns: u64,
}

impl Meter {
    /// Measures anew, from `since` or from the next answer; `full` says that somebody waits already.
    fn restart(&mut self, since: Option<Instant>, full: bool) {
        (self.since, self.bytes, self.answers, self.full) = (since, 0, 0, full);
    }
}

/// A place at the origin; free again when dropped.
pub(crate) struct Place {
    /// `None` if it was never taken.
    gate: Option<Arc<Gate>>,
    bytes: u64,
}

impl State {
    /// Whether somebody could have a place now.
    fn is_free(&self, turn: Turn) -> bool {
        let limit = self.climb.limit();
        match turn {
            Turn::Demand => self.taken < limit,
            Turn::Ahead => self.taken < limit - limit / 4 && self.demand.is_empty(),
        }
    }
}

impl Gate {
    /// Waits for a place.
    pub(crate) async fn enter(self: &Arc<Self>, turn: Turn) -> Place {
        let waiting = {
            let mut state = self.state.lock();
            if state.is_free(turn) {
                state.taken += 1;
                return Place { gate: Some(self.clone()), bytes: 0 };
            }
            state.meter.full = true;
            let (sender, waiting) = oneshot::channel();
            match turn {
                Turn::Demand => state.demand.push_back(sender),
                Turn::Ahead => state.ahead.push_back(sender),
            }
            waiting
        };
        match waiting.await {
            Ok(place) => place,
            // The gate lives as long as `self`, and lets nobody go without a place.
            Err(_) => unreachable!("a gate dropped somebody who waits"),
        }
    }

    /// Gives free places to those who wait.
    fn admit(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = match (state.is_free(Turn::Demand), state.is_free(Turn::Ahead)) {
                    (true, _) if !state.demand.is_empty() => state.demand.pop_front(),
                    (_, true) => state.ahead.pop_front(),
                    _ => None,
                };
                state.taken += usize::from(next.is_some());
                next
            };
            let Some(next) = next else { return };
            // Whoever waited may have gone: the place is free again, and not by its drop, which would come back in here.
            if let Err(mut unwanted) = next.send(Place { gate: Some(self.clone()), bytes: 0 }) {
                unwanted.gate = None;
                self.state.lock().taken -= 1;
            }
        }
    }

    /// Takes in what the origin says of its load, a count that only grows.
    pub(crate) fn slowdowns(&self, count: u64) {
        let mut state = self.state.lock();
        if count > state.meter.slowdowns {
            state.meter.slowdowns = count;
            state.climb.measured(0, MEASURE, true, true);
            state.meter.restart(None, false);
        }
    }
}

impl Place {
    /// Bytes came by the request.
    pub(crate) fn received(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        {
            let mut state = gate.state.lock();
            state.taken -= 1;
            state.answered(self.bytes);
        }
        gate.admit();
    }
}

impl State {
    fn answered(&mut self, bytes: u64) {
        let now = Instant::now();
        let meter = &mut self.meter;
        // The first answer only starts the clock: how long it took is not known.
        let Some(since) = meter.since else {
            meter.restart(Some(now), false);
            return;
        };
        meter.bytes += bytes;
        meter.answers += 1;
        let time = now - since;
        if time < MEASURE || meter.answers < self.climb.limit() {
            return;
        }
        self.climb.measured(meter.bytes, time, meter.full, false);
        let full = !self.demand.is_empty() || !self.ahead.is_empty();
        self.meter.restart(Some(now), full);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::climb::START;

    /// All places that there are now.
    fn enter_all(gate: &Arc<Gate>, turn: Turn) -> Vec<Place> {
        std::iter::from_fn(|| try_enter(gate, turn)).collect()
    }

    /// Enters if there is a place now.
    fn try_enter(gate: &Arc<Gate>, turn: Turn) -> Option<Place> {
        Box::pin(gate.enter(turn)).now_or_never()
    }

    #[test]
    fn what_nobody_waits_for_leaves_places_for_readers() {
        let gate = Arc::new(Gate::default());
        let ahead = enter_all(&gate, Turn::Ahead);
        assert_eq!(ahead.len(), START - START / 4);
        let demand = enter_all(&gate, Turn::Demand);
        assert_eq!(demand.len(), START / 4);
    }

    #[test]
    fn readers_come_first_and_places_are_not_lost() {
        let gate = Arc::new(Gate::default());
        let mut taken = enter_all(&gate, Turn::Demand);
        let mut ahead = Box::pin(gate.enter(Turn::Ahead));
        let mut gone = Box::pin(gate.enter(Turn::Demand));
        let mut demand = Box::pin(gate.enter(Turn::Demand));
        assert!((&mut ahead).now_or_never().is_none() && (&mut gone).now_or_never().is_none());
        assert!((&mut demand).now_or_never().is_none());
        drop(gone);
        taken.pop();
        assert!((&mut ahead).now_or_never().is_none());
        taken.push((&mut demand).now_or_never().expect("a place for the reader"));
        taken.truncate(START - START / 4 - 1);
        taken.push((&mut ahead).now_or_never().expect("a place for what is fetched ahead"));
        assert_eq!(taken.len(), START - START / 4);
        drop(taken);
        assert_eq!(enter_all(&gate, Turn::Demand).len(), START);
    }

    #[test]
    fn a_place_that_was_given_to_somebody_who_left_is_free_again() {
        let gate = Arc::new(Gate::default());
        let taken = enter_all(&gate, Turn::Demand);
        let mut waiting = Box::pin(gate.enter(Turn::Demand));
        assert!((&mut waiting).now_or_never().is_none());
        drop(taken);
        // It has a place by now, but never looked.
        drop(waiting);
        assert_eq!(enter_all(&gate, Turn::Demand).len(), START);
    }

    #[test]
    fn a_source_that_asks_for_less_gets_fewer_requests() {
        let gate = Arc::new(Gate::default());
        gate.slowdowns(3);
        gate.slowdowns(3);
        assert_eq!(enter_all(&gate, Turn::Demand).len(), START * 2 / 3);
    }
}
