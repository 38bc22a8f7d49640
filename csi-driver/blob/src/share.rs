//! Something of which there is so much on a node, such as requests to sources, shared by its datasets so that none can take
//! it from the others.
//!
//! A dataset may have at most [`GREED`] times what it leaves (the dynamic thresholds of Choudhury and Hahne): one alone gets
//! most of it, several get equal shares, and something is left for one more. Who waits and has least comes first. A few units
//! each dataset can have in any case, so that nobody waits for others whose sources are stuck.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use granary_image::BLOCK_BYTES;
use tokio::sync::oneshot;

use crate::sync::Mutex;

/// Of five units, one dataset alone may have four.
const GREED: usize = 4;

/// Requests to sources at once. At a store that takes 50 ms to answer, the 128 that one dataset alone may have reach more
/// than 1 GB/s; each has some hundred KiB of its answer in memory.
const REQUESTS: usize = 160;
/// Those that each dataset can have in any case.
const LEAST_REQUESTS: usize = 2;

/// Bytes of parts that are in memory because nothing could make room for them.
const BUFFER_BYTES: u64 = 64 << 20;

/// What the datasets of a node share, whichever pools they are in.
#[derive(Clone)]
pub struct Shares {
    requests: Arc<Share>,
    /// Blocks of memory.
    buffers: Arc<Share>,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            requests: Share::new(REQUESTS, LEAST_REQUESTS),
            buffers: Share::new((BUFFER_BYTES / BLOCK_BYTES) as usize, 0),
        }
    }
}

impl Shares {
    /// Takes part for a dataset: in the requests, and in the blocks of the buffers.
    pub(crate) fn members(&self, dataset: &str) -> (Member, Member) {
        (self.requests.member(dataset), self.buffers.member(dataset))
    }

    #[cfg(test)]
    pub(crate) fn with_units(requests: Arc<Share>, buffers: Arc<Share>) -> Self {
        Self { requests, buffers }
    }
}

/// See the module.
pub(crate) struct Share {
    state: Mutex<State>,
}

struct State {
    /// Below zero if all is taken and somebody has his least beyond it.
    free: isize,
    /// Units that a dataset can have in any case.
    least: usize,
    /// Counts grants, so that those who have as little as each other take turns.
    turn: u64,
    lines: HashMap<Arc<str>, Line>,
    /// Requests that wait in all lines.
    waiting: usize,
}

/// One dataset.
#[derive(Default)]
struct Line {
    members: usize,
    taken: usize,
    queue: VecDeque<(usize, oneshot::Sender<Taken>)>,
    /// When it was granted something last.
    turn: u64,
}

/// One who takes for a dataset.
pub(crate) struct Member {
    share: Arc<Share>,
    dataset: Arc<str>,
}

/// Units that were taken; they are free again when this is dropped.
pub(crate) struct Taken {
    /// `None` if it is given back otherwise.
    of: Option<(Arc<Share>, Arc<str>)>,
    units: usize,
}

impl Share {
    /// Of `units`; each dataset can have `least`, also when there are no more.
    pub(crate) fn new(units: usize, least: usize) -> Arc<Self> {
        let state = State { free: units as isize, least, turn: 0, lines: HashMap::new(), waiting: 0 };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Takes part for a dataset.
    pub(crate) fn member(self: &Arc<Self>, dataset: &str) -> Member {
        let mut state = self.state.lock();
        let dataset = match state.lines.get_key_value(dataset) {
            Some((known, _)) => known.clone(),
            None => Arc::from(dataset),
        };
        state.lines.entry(dataset.clone()).or_default().members += 1;
        Member { share: self.clone(), dataset }
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> isize {
        self.state.lock().free
    }

    fn taken(self: &Arc<Self>, dataset: &Arc<str>, units: usize) -> Taken {
        Taken { of: Some((self.clone(), dataset.clone())), units }
    }

    /// Gives to those who wait what they may have now.
    fn admit(self: &Arc<Self>) {
        loop {
            let Some((dataset, units, sender)) = self.state.lock().next() else { return };
            // Whoever waited may have gone: not given back by its drop, which would come back in here.
            if let Err(mut unwanted) = sender.send(self.taken(&dataset, units)) {
                unwanted.of = None;
                self.state.lock().give_back(&dataset, units);
            }
        }
    }
}

impl State {
    fn may(&self, taken: usize, units: usize) -> bool {
        let Ok(free) = usize::try_from(self.free - units as isize) else { return taken + units <= self.least };
        taken == 0 || taken + units <= self.least.max(GREED * free)
    }

    fn take(&mut self, dataset: &Arc<str>, units: usize) {
        self.free -= units as isize;
        self.turn += 1;
        let turn = self.turn;
        let line = self.lines.entry(dataset.clone()).or_default();
        line.taken += units;
        line.turn = turn;
    }

    fn give_back(&mut self, dataset: &Arc<str>, units: usize) {
        self.free += units as isize;
        if let Some(line) = self.lines.get_mut(dataset) {
            line.taken -= units;
        }
        self.tidy(dataset);
    }

    fn tidy(&mut self, dataset: &Arc<str>) {
        if let Some(line) = self.lines.get(dataset)
            && line.members == 0
            && line.taken == 0
        {
            self.waiting -= line.queue.len();
            self.lines.remove(dataset);
        }
    }

    /// Takes for the first that may have something.
    fn next(&mut self) -> Option<(Arc<str>, usize, oneshot::Sender<Taken>)> {
        if self.waiting == 0 {
            return None;
        }
        let heads = self.lines.iter().filter_map(|(dataset, line)| Some((dataset, line, line.queue.front()?.0)));
        let mut heads: Vec<_> = heads.map(|(dataset, line, units)| (line.taken, line.turn, units, dataset)).collect();
        heads.sort_unstable();
        let mut chosen = None;
        for (taken, _, units, dataset) in heads {
            if self.may(taken, units) {
                chosen = Some(dataset.clone());
                break;
            }
            // What one who has nothing waits for is not for others.
            if taken == 0 {
                break;
            }
        }
        let dataset = chosen?;
        let (units, sender) = self.lines.get_mut(&dataset)?.queue.pop_front()?;
        self.waiting -= 1;
        self.take(&dataset, units);
        Some((dataset, units, sender))
    }
}

impl Member {
    /// Takes `units`, which must be no more than there are, once it is this dataset's turn.
    pub(crate) async fn take(&self, units: usize) -> Taken {
        let waiting = {
            let mut state = self.share.state.lock();
            let taken = state.lines.get(&self.dataset).map_or(0, |line| line.taken);
            if state.waiting == 0 && state.may(taken, units) {
                state.take(&self.dataset, units);
                return self.share.taken(&self.dataset, units);
            }
            let (sender, waiting) = oneshot::channel();
            state.waiting += 1;
            state.lines.entry(self.dataset.clone()).or_default().queue.push_back((units, sender));
            waiting
        };
        // Those who wait may be others' own limits, and not this one's.
        self.share.admit();
        match waiting.await {
            Ok(taken) => taken,
            // A line with a member lets nobody go without what was asked for.
            Err(_) => unreachable!("a share dropped somebody who waits"),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.share.state.lock();
        if let Some(line) = state.lines.get_mut(&self.dataset) {
            line.members -= 1;
        }
        state.tidy(&self.dataset);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some((share, dataset)) = self.of.take() else { return };
        share.state.lock().give_back(&dataset, self.units);
        share.admit();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// All that a dataset gets now, one by one.
    fn take_all(member: &Member) -> Vec<Taken> {
        std::iter::from_fn(|| Box::pin(member.take(1)).now_or_never()).collect()
    }

    #[test]
    fn one_alone_gets_most_and_leaves_something() {
        let share = Share::new(160, 2);
        let greedy = share.member("a");
        let all = take_all(&greedy);
        assert_eq!((all.len(), share.free()), (128, 32));
        let next = take_all(&share.member("b"));
        assert!(next.len() > 20, "{} for the next", next.len());
        drop(all);
        assert_eq!(share.free(), 160 - next.len() as isize);
    }

    #[test]
    fn fifty_greedy_ones_whose_sources_are_stuck_leave_something_to_the_next() {
        let share = Share::new(160, 2);
        let stuck: Vec<_> = (0..50).map(|n| take_all(&share.member(&n.to_string()))).collect();
        assert!(stuck.iter().all(|all| all.len() >= 2));
        let next = share.member("next");
        assert_eq!(take_all(&next).len(), 2);
    }

    #[tokio::test]
    async fn those_who_always_want_more_get_equal_shares() {
        let share = Share::new(100, 0);
        let members: Vec<_> = (0..4).map(|n| Arc::new(share.member(&n.to_string()))).collect();
        // The first has as much as it can before the others come, and asks for far more.
        let (sender, mut granted) = tokio::sync::mpsc::unbounded_channel();
        let wants = [400, 200, 200, 200];
        for (at, member) in members.iter().enumerate() {
            for _ in 0..wants[at] {
                let (member, sender) = (member.clone(), sender.clone());
                tokio::spawn(async move {
                    let taken = member.take(1).await;
                    let _ = sender.send((at, taken));
                });
            }
            tokio::task::yield_now().await;
        }
        drop(sender);
        // Answers come in the order of the requests.
        let mut under_way = VecDeque::new();
        let mut counts = [0; 4];
        while counts.iter().sum::<usize>() < 500 {
            while let Ok(one) = granted.try_recv() {
                under_way.push_back(one);
            }
            if let Some((at, _taken)) = under_way.pop_front() {
                counts[at] += 1;
            }
            // Who was granted something says so.
            tokio::task::yield_now().await;
        }
        // Of 500, 125 each, but for the start that the first had.
        assert!(counts[1..].iter().all(|&count| (80..=135).contains(&count)), "{counts:?}");
    }

    #[test]
    fn who_left_and_what_was_given_to_him_is_free_again() {
        let share = Share::new(10, 0);
        let (a, b) = (share.member("a"), share.member("b"));
        let all = take_all(&a);
        let mut given = Box::pin(b.take(5));
        let mut gone = Box::pin(b.take(5));
        assert!((&mut given).now_or_never().is_none() && (&mut gone).now_or_never().is_none());
        drop(gone);
        drop(all);
        // It has its units by now, but never looked.
        drop(given);
        assert_eq!(share.free(), 10);
        drop((a, b));
        assert!(share.state.lock().lines.is_empty());
    }

    #[test]
    fn a_large_request_of_one_who_has_nothing_is_not_starved_by_small_ones() {
        let share = Share::new(10, 0);
        let (a, b) = (share.member("a"), share.member("b"));
        let mut small = take_all(&a);
        let mut large = Box::pin(b.take(8));
        assert!((&mut large).now_or_never().is_none());
        while small.pop().is_some() {
            if let Some(one) = Box::pin(a.take(1)).now_or_never() {
                small.push(one);
                assert!((&mut large).now_or_never().is_some(), "it comes first");
                return;
            }
        }
        assert!((&mut large).now_or_never().is_some());
    }
}
