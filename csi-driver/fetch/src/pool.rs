//! Connections that wait for their next request.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, sleep};

/// How long a connection waits. Many servers close theirs after about a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);

/// Connections of a process that wait, those of all its sources: each has a buffer of what it read last.
const MOST: usize = 128;

/// The pools of this process.
static ALL: Pools = Pools::new(MOST);

/// The side of a connection that sends.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// Pools that share a number of idle connections: with one more, the one that has waited longest ends.
#[derive(Debug)]
struct Pools {
    most: usize,
    idle: AtomicUsize,
    pools: Mutex<Vec<Weak<Pool>>>,
}

/// Idle connections, as many as were in use at once: who reads decides how many that are.
#[derive(Debug)]
pub(crate) struct Pool {
    of: &'static Pools,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that came back last are last.
    idle: Vec<Idle>,
    /// Whether a task will look for those that waited too long.
    watched: bool,
}

#[derive(Debug)]
struct Idle {
    place: Place,
    sender: Sender,
    since: Instant,
    _counted: Counted,
}

/// One of the idle connections of [`Pools`].
#[derive(Debug)]
struct Counted(&'static Pools);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Relaxed);
    }
}

impl Pools {
    const fn new(most: usize) -> Self {
        Self { most, idle: AtomicUsize::new(0), pools: Mutex::new(Vec::new()) }
    }

    fn pool(&'static self) -> Arc<Pool> {
        let pool = Arc::new(Pool { of: self, state: Mutex::default() });
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        pool
    }

    fn counted(&'static self) -> Counted {
        self.idle.fetch_add(1, Relaxed);
        Counted(self)
    }

    fn end_oldest(&self) {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = pools.iter().filter_map(|pool| {
            let pool = pool.upgrade()?;
            let since = pool.state().idle.first()?.since;
            Some((since, pool))
        });
        if let Some((_, pool)) = waiting.min_by_key(|(since, _)| *since) {
            let mut state = pool.state();
            if !state.idle.is_empty() {
                state.idle.remove(0);
            }
        }
    }
}

impl Pool {
    /// One more of this process.
    pub(crate) fn new() -> Arc<Self> {
        ALL.pool()
    }

    /// A connection that can be used. The youngest comes first, so that the others can end when fewer are needed.
    pub(crate) async fn take(&self, place: &Place) -> Option<Sender> {
        while let Some(mut sender) = self.pop(place) {
            // Just after an answer it takes a moment until the connection has seen its end, too.
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
        None
    }

    fn pop(&self, place: &Place) -> Option<Sender> {
        let idle = &mut self.state().idle;
        idle.retain(|idle| !idle.sender.is_closed());
        let ready = idle.iter().rposition(|idle| idle.place == *place && idle.sender.is_ready());
        let at = ready.or_else(|| idle.iter().rposition(|idle| idle.place == *place))?;
        Some(idle.remove(at).sender)
    }

    /// Keeps a connection whose answer has been read.
    pub(crate) fn put(self: &Arc<Self>, place: Place, sender: Sender) {
        let mut state = self.state();
        state.idle.push(Idle { place, sender, since: Instant::now(), _counted: self.of.counted() });
        if !state.watched {
            state.watched = true;
            tokio::spawn(watch(Arc::downgrade(self)));
        }
        drop(state);
        if self.of.idle.load(Relaxed) > self.of.most {
            self.of.end_oldest();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends connections that wait too long, until there are none.
async fn watch(pool: Weak<Pool>) {
    loop {
        sleep(IDLE_TIMEOUT).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state();
        state.idle.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT && !idle.sender.is_closed());
        if state.idle.is_empty() {
            state.watched = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::client::conn::http1::handshake;
    use hyper_util::rt::TokioIo;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    async fn connection() -> (Sender, DuplexStream) {
        let (ours, server) = duplex(64);
        let (sender, connection) = handshake::<_, Full<Bytes>>(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        (sender, server)
    }

    fn place(authority: &'static str) -> Place {
        Place { scheme: Scheme::HTTPS, authority: Authority::from_static(authority) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_used_for_its_place_and_until_its_server_closes_it() {
        let pool = Pool::new();
        let (sender, server) = connection().await;
        pool.put(place("a"), sender);
        assert!(pool.take(&place("b")).await.is_none());
        let sender = pool.take(&place("a")).await.unwrap();
        assert!(pool.take(&place("a")).await.is_none());
        pool.put(place("a"), sender);
        drop(server);
        while !pool.state().idle[0].sender.is_closed() {
            tokio::task::yield_now().await;
        }
        assert!(pool.take(&place("a")).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_does_not_wait_for_ever() {
        let pool = Pool::new();
        for _ in 0..2 {
            let (sender, server) = connection().await;
            pool.put(place("a"), sender);
            sleep(IDLE_TIMEOUT * 3).await;
            assert!(pool.state().idle.is_empty() && !pool.state().watched);
            drop(server);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_all_that_wait_the_oldest_ends_when_there_are_too_many() {
        let all: &'static Pools = Box::leak(Box::new(Pools::new(2)));
        let (one, other) = (all.pool(), all.pool());
        let mut servers = Vec::new();
        for pool in [&one, &other, &other] {
            let (sender, server) = connection().await;
            pool.put(place("a"), sender);
            servers.push(server);
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!((one.state().idle.len(), other.state().idle.len()), (0, 2));
        drop(other.take(&place("a")).await);
        assert_eq!(all.idle.load(Relaxed), 1);
        drop(other);
        assert_eq!(all.idle.load(Relaxed), 0);
        let _third = all.pool();
        assert_eq!(all.pools.lock().unwrap().len(), 2, "one that is gone leaves nothing");
    }
}
