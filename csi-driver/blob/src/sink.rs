//! Where the bytes of a part go while they arrive: the data file, or, when there is no room, memory.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use granary_image::{BLOCK_BYTES, Part};

use crate::blob::Blob;
use crate::budget::Reservation;
use crate::error::ReadError;
use crate::flight::{Buffer, Hold, Landed};
use crate::layout::punch;
use crate::presence::Presence;
use crate::store::Store;
use crate::sync::Notify;

pub(crate) enum Sink {
    File(FileSink),
    Memory(Buffer),
}

/// A claimed part of the data file. Dropped unfinished, it leaves the part absent and its range a hole.
pub(crate) struct FileSink {
    blob: Arc<Blob>,
    part: Part,
    crc: u32,
    written: u32,
    /// `None` once the part is present.
    reservation: Option<Reservation>,
}

impl Sink {
    /// Makes room for `part` and claims it.
    pub(crate) async fn open(blob: &Arc<Blob>, part: Part) -> Self {
        let bytes = u64::from(part.len).next_multiple_of(BLOCK_BYTES);
        if let Some(reservation) = blob.pool.make_room(bytes).await
            && claim(&blob.store, &part, &blob.pool.evicted).await
        {
            blob.pool.turnover.returns(&blob.store.state(&part).age, bytes);
            let blob = blob.clone();
            return Self::File(FileSink { blob, part, crc: 0, written: 0, reservation: Some(reservation) });
        }
        Self::Memory(blob.buffer(part.len).await)
    }

    /// Takes the next bytes of the part. If the file does not take them, memory does.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        match self {
            Self::Memory(buffer) => buffer.bytes.extend_from_slice(bytes),
            Self::File(file) => {
                if let Err(error) = file.write(bytes) {
                    file.blob.write_failed(&error);
                    let mut buffer = file.to_memory().await?;
                    buffer.bytes.extend_from_slice(bytes);
                    *self = Self::Memory(buffer);
                }
            }
        }
        Ok(())
    }

    /// All bytes have come: makes the part readable; `ahead` if nobody has asked for it.
    pub(crate) fn finish(self, ahead: bool) -> Landed {
        match self {
            Self::Memory(buffer) => Landed::Buffered(buffer),
            Self::File(file) => Landed::Stored { _hold: file.finish(ahead) },
        }
    }
}

/// Claims the part for filling. False if it became present by itself: an eviction that failed. `evicted` is told when
/// parts stop being busy without having become present.
pub(crate) async fn claim(store: &Store, part: &Part, evicted: &Notify) -> bool {
    let state = store.state(part);
    loop {
        let evicted = evicted.notified();
        tokio::pin!(evicted);
        evicted.as_mut().enable();
        if state.begin_fill() {
            return true;
        }
        match state.presence() {
            Presence::Busy => evicted.await,
            Presence::Absent => {}
            Presence::Present | Presence::Unverified => return false,
        }
    }
}

impl FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.blob.pool.fail_write()?;
        self.blob.store.data.write_all_at(bytes, self.part.blob_offset + u64::from(self.written))?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.written += bytes.len() as u32;
        Ok(())
    }

    /// What was written so far, in memory.
    async fn to_memory(&self) -> Result<Buffer, ReadError> {
        let mut buffer = self.blob.buffer(self.part.len).await;
        buffer.bytes.resize(self.written as usize, 0);
        let read = self.blob.store.data.read_exact_at(&mut buffer.bytes, self.part.blob_offset);
        match read {
            Ok(()) if crc32c::crc32c(&buffer.bytes) == self.crc => Ok(buffer),
            Ok(()) => Err(self.failed("the file lost what was written to it")),
            Err(e) => Err(self.failed(&e.to_string())),
        }
    }

    fn failed(&self, message: &str) -> ReadError {
        ReadError::Cache { action: "write", blob: self.blob.store.id.clone(), message: message.to_owned() }
    }

    fn finish(mut self, ahead: bool) -> Hold {
        if let Some(reservation) = self.reservation.take() {
            reservation.taken();
        }
        let Blob { pool, store, .. } = &*self.blob;
        store.filled(&self.part, self.crc, pool.tick(), ahead);
        pool.filled(store);
        Hold::new(store.clone(), &self.part)
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        let Some(reservation) = self.reservation.take() else { return };
        let Blob { pool, store, .. } = &*self.blob;
        let blocks = u64::from(self.part.len).next_multiple_of(BLOCK_BYTES);
        if let Err(error) = punch(&store.data, self.part.blob_offset, blocks) {
            // Still on the disk, so it stays counted, until the next start frees it.
            tracing::warn!(blob = store.id, %error, "cannot free a part that was not completed");
            reservation.taken();
        }
        store.state(&self.part).absent();
        pool.evicted.notify_waiters();
    }
}
