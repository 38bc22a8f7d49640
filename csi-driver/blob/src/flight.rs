//! One fetch of one part, and those who wait for it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use granary_image::Part;

use crate::error::ReadError;
use crate::share::Taken;
use crate::store::Store;
use crate::sync::{Mutex, Notify};

/// A part's bytes, for as long as this lives.
pub(crate) enum Landed {
    /// In the data file.
    Stored {
        /// Keeps it there.
        _hold: Hold,
    },
    /// In memory only: nothing could make room for it.
    Buffered(Buffer),
}

/// A reader's hold on a present part: it is not evicted meanwhile.
pub(crate) struct Hold {
    store: Arc<Store>,
    part: u64,
}

impl Hold {
    /// Takes over a hold that was taken on the part's state.
    pub(crate) fn new(store: Arc<Store>, part: &Part) -> Self {
        Self { store, part: part.number }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.store.parts.get(self.part).unpin();
    }
}

/// The bytes of one part in memory, counted against the node's bound.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) _blocks: Taken,
}

/// A fetch under way. All its readers share it; when the last lets go, so does the hold or the buffer.
#[derive(Default)]
pub(crate) struct Flight {
    landed: OnceLock<Result<Landed, ReadError>>,
    notify: Notify,
}

impl Flight {
    /// Ends the flight and wakes its readers.
    pub(crate) fn land(&self, result: Result<Landed, ReadError>) {
        // A flight lands once: whoever lands it takes it from the run first.
        let _ = self.landed.set(result);
        self.notify.notify_waiters();
    }

    pub(crate) async fn wait(&self) -> Result<&Landed, ReadError> {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.landed.get().is_none() {
            notified.await;
        }
        match self.landed.get() {
            Some(Ok(landed)) => Ok(landed),
            Some(Err(e)) => Err(e.clone()),
            None => Err(ReadError::Stopped),
        }
    }
}

/// The fetches of one blob that are under way, by part.
#[derive(Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<u64, Arc<Flight>>>,
}

impl Flights {
    /// The part's flight, and whether it is new and must be started.
    pub(crate) fn board(&self, store: &Arc<Store>, part: &Part, now: u32) -> (Arc<Flight>, bool) {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(&part.number) {
            return (flight.clone(), false);
        }
        let flight = Arc::new(Flight::default());
        if store.state(part).pin(now) {
            // It landed since the caller looked.
            flight.land(Ok(Landed::Stored { _hold: Hold::new(store.clone(), part) }));
            return (flight, false);
        }
        under_way.insert(part.number, flight.clone());
        (flight, true)
    }

    /// The part's flight has ended, and is about to be told.
    pub(crate) fn landed(&self, part: &Part) {
        self.under_way.lock().remove(&part.number);
    }

    /// Whether somebody fetches the part.
    pub(crate) fn has(&self, part: &Part) -> bool {
        self.under_way.lock().contains_key(&part.number)
    }
}
