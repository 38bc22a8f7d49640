//! Buffers of reads: used again, since a fresh megabyte costs more than filling it, and bounded. Who wants one when there is none
//! waits: a thread that waits takes no further request from the kernel, which then waits itself.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use memmap2::MmapMut;
use parking_lot::{Condvar, Mutex};

/// Large buffers that are kept while nobody needs them: what idle blobs cost, all together.
const KEPT: usize = 16;
/// Up to here a buffer is as long as it has to be, and is not kept: it is no matter what it costs to make.
const SMALL: usize = 128 << 10;
/// Bytes of all buffers that are lent at once, but for the one that each blob can always have.
const MOST: usize = 48 << 20;
/// Bytes of those that one blob has: its source may stand still, and the others go on.
pub(crate) const MOST_OF_ONE: usize = 24 << 20;

/// Buffers of up to one length, shared by all blobs.
pub(crate) struct Buffers {
    len: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    free: Vec<MmapMut>,
    lent: usize,
}

/// What one blob has of them.
pub(crate) struct Share {
    home: Arc<Buffers>,
    /// Bytes that are lent; changed while the state is locked.
    lent: Arc<Mutex<usize>>,
}

impl Buffers {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        Arc::new(Self { len, state: Mutex::default(), returned: Condvar::new() })
    }

    /// A share for a blob.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { home: self.clone(), lent: Arc::default() }
    }
}

impl Share {
    /// A buffer of `len` bytes with anything in it; waits for it. `None` if that is more than a buffer has.
    pub(crate) fn take(&self, len: usize) -> Option<Buffer> {
        if len > self.home.len {
            return None;
        }
        let size = if len > SMALL { self.home.len } else { len };
        let mut state = self.home.state.lock();
        while !self.may_take(&state, size) {
            self.home.returned.wait(&mut state);
        }
        *self.lent.lock() += size;
        state.lent += size;
        let large = if len > SMALL { state.free.pop() } else { None };
        drop(state);
        let lease = Lease { home: self.home.clone(), lent: self.lent.clone(), size };
        let bytes = match large {
            Some(map) => Bytes::Large(map),
            // Not from the allocator, which keeps what it was given back.
            None if len > SMALL => Bytes::Large(MmapMut::map_anon(size).ok()?),
            None => Bytes::Small(vec![0; len]),
        };
        Some(Buffer { bytes, len, lease })
    }

    fn may_take(&self, state: &State, size: usize) -> bool {
        let own = *self.lent.lock();
        own == 0 || (own + size <= MOST_OF_ONE && state.lent + size <= MOST)
    }
}

enum Bytes {
    Small(Vec<u8>),
    Large(MmapMut),
}

/// Counts a buffer, until it is dropped.
struct Lease {
    home: Arc<Buffers>,
    lent: Arc<Mutex<usize>>,
    size: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.home.state.lock();
        *self.lent.lock() -= self.size;
        state.lent -= self.size;
        self.home.returned.notify_all();
    }
}

/// A buffer that returns when dropped.
pub(crate) struct Buffer {
    bytes: Bytes,
    len: usize,
    lease: Lease,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Small(bytes) => bytes,
            Bytes::Large(bytes) => &bytes[..self.len],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Small(bytes) => bytes,
            Bytes::Large(bytes) => &mut bytes[..self.len],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Bytes::Large(map) = std::mem::replace(&mut self.bytes, Bytes::Small(Vec::new())) {
            let mut state = self.lease.home.state.lock();
            if state.free.len() < KEPT {
                state.free.push(map);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const LEN: usize = 1 << 20;

    /// As many as there are without waiting, but one of another blob.
    fn all(buffers: &Arc<Buffers>) -> (Vec<Share>, Vec<Buffer>) {
        let shares: Vec<Share> = (0..MOST / MOST_OF_ONE).map(|_| buffers.share()).collect();
        let taken = shares.iter().flat_map(|share| (0..MOST_OF_ONE / LEN).map(|_| share.take(LEN).unwrap()));
        let taken = taken.collect();
        (shares, taken)
    }

    #[test]
    fn large_buffers_are_used_again_up_to_a_number() {
        let buffers = Buffers::new(LEN);
        let share = buffers.share();
        let mut first = share.take(SMALL + 1).unwrap();
        first[SMALL] = 7;
        let place = first.as_ptr();
        drop(first);
        let again = share.take(LEN).unwrap();
        assert_eq!((again.as_ptr(), again[SMALL], again.len()), (place, 7, LEN));
        assert_eq!(share.take(9).unwrap().len(), 9);
        assert!(share.take(LEN + 1).is_none());
        drop(again);
        drop((0..KEPT + 1).map(|_| share.take(LEN)).collect::<Vec<_>>());
        let state = buffers.state.lock();
        assert_eq!((state.free.len(), state.lent), (KEPT, 0));
    }

    #[test]
    fn who_wants_more_than_there_is_waits_and_every_blob_has_one() {
        let buffers = Buffers::new(LEN);
        let (shares, mut taken) = all(&buffers);
        assert_eq!(buffers.state.lock().lent, MOST);
        // Blobs that have none yet.
        let others: Vec<_> = (0..3).map(|_| buffers.share()).collect();
        let ones: Vec<_> = others.iter().map(|share| share.take(LEN).unwrap()).collect();
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drop(others[0].take(LEN));
                sender.send("other").unwrap();
            });
            scope.spawn(|| {
                drop(shares[0].take(1));
                sender.send("own").unwrap();
            });
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
            drop(ones);
            assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok("other"));
            taken.truncate(taken.len() / 2);
            // Its own are all lent still.
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
            taken.clear();
            assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok("own"));
        });
        assert_eq!(buffers.state.lock().lent, 0);
    }
}
