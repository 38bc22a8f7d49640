//! One fetch of one part, and those who wait for it.

use std::sync::{Arc, OnceLock};

use granary_image::Part;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::error::ReadError;
use crate::store::Store;

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

/// The bytes of one part in memory, counted against the pool's bound.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) _permit: OwnedSemaphorePermit,
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
