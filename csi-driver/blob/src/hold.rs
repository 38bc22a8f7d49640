//! Parts that stay: held for those who read the data file itself, past everything here.
//!
//! A hold is a reader that does not leave. Nothing that it covers is evicted, and its bytes are on the disk, so that the
//! data file may be given to the kernel in place of what serves the blob otherwise.

use std::fs::File;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use granary_image::{BLOCK_BYTES, PartRanges};
use tokio::sync::watch;

use crate::blob::Blob;
use crate::maintain::{blocking, flush_store};
use crate::presence::PartState;
use crate::store::{Look, Seen, Store};

/// Parts that are checked in one go.
const VERIFY_BATCH: usize = 32;

/// Why parts cannot be held now, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unready {
    /// One is absent, or being filled or evicted.
    Absent,
    /// All are present, but one was not checked since an earlier process left it: see [`Blob::verify`].
    Unverified,
    /// All are present and sound, but a crash of the machine could lose one: see [`Blob::flush`].
    NotDurable,
}

/// Parts that somebody reads natively when a pool is opened, left so by a process that was killed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The blob.
    pub blob_id: String,
    /// Its parts that are read; `None` if nobody knows, and it may be any.
    pub parts: Option<Arc<PartRanges>>,
}

/// Keeps parts in the data file, until it is dropped.
pub struct PartsHold {
    store: Arc<Store>,
    parts: Arc<PartRanges>,
    bytes: u64,
    for_ever: bool,
}

impl PartsHold {
    /// Bytes of the parts in the file, in whole blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps the parts as long as the pool is open: for what goes on being read when this process ends.
    pub fn keep(mut self) {
        self.for_ever = true;
    }

    /// Asks the system to forget what it has of the parts in its page cache: whoever reads natively reads past it.
    pub fn drop_pages(&self) {
        if let Some(table) = self.store.table().as_ref() {
            for range in self.parts.iter() {
                let last = table.part(range.end - 1);
                let start = table.part(range.start).blob_offset;
                self.store.drop_pages(start, last.blob_offset + u64::from(last.len) - start);
            }
        }
    }
}

impl Drop for PartsHold {
    fn drop(&mut self) {
        if !self.for_ever {
            for part in self.parts.iter().flatten().map(|part| self.store.parts.get(part)) {
                // What was read natively was not seen to be read again.
                part.age.keep();
                part.unpin();
            }
        }
    }
}

impl Store {
    /// Holds `parts` if `take` takes a reader's hold on each; it gives the part's blocks.
    fn hold(
        self: &Arc<Self>,
        parts: &Arc<PartRanges>,
        take: impl Fn(&PartState) -> Result<u32, Unready>,
    ) -> Result<PartsHold, Unready> {
        let mut blocks = 0;
        for (nth, part) in parts.iter().flatten().enumerate() {
            match take(self.parts.get(part)) {
                Ok(more) => blocks += u64::from(more),
                Err(why) => {
                    parts.iter().flatten().take(nth).for_each(|part| self.parts.get(part).unpin());
                    return Err(why.min(self.worst(parts, nth)));
                }
            }
        }
        Ok(PartsHold { store: self.clone(), parts: parts.clone(), bytes: blocks * BLOCK_BYTES, for_ever: false })
    }

    /// What is worst from the `nth` part on; looks no further than the first that is absent.
    fn worst(&self, parts: &PartRanges, nth: usize) -> Unready {
        let mut worst = Unready::NotDurable;
        for part in parts.iter().flatten().skip(nth) {
            if let Some(why) = self.parts.get(part).unready() {
                worst = worst.min(why);
            }
            if worst == Unready::Absent {
                break;
            }
        }
        worst
    }

    /// Holds what `claims` name, or nothing: `None` if a part of it is not known here.
    ///
    /// The bytes are not checked: they were when the claimant was given the file, which was in the same run of the machine.
    pub(crate) fn claimed(self: &Arc<Self>, claims: &[&Claim]) -> Option<Vec<PartsHold>> {
        let hold = |claim: &&Claim| self.hold(claim.parts.as_ref()?, PartState::hold_loaded).ok();
        claims.iter().map(hold).collect()
    }

    /// Asks the system to forget a range of the data file; what is not yet on the disk stays.
    pub(crate) fn drop_pages(&self, offset: u64, len: u64) {
        // Advice: nothing is wrong if it is not taken.
        let _ = rustix::fs::fadvise(&*self.data, offset, NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
    }
}

impl Blob {
    /// Keeps `parts` in the data file if all are there, were checked, and survive a crash of the machine. Takes about 10 ns a
    /// part.
    pub fn hold(&self, parts: &Arc<PartRanges>) -> Result<PartsHold, Unready> {
        self.store.hold(parts, PartState::hold)
    }

    /// Whether one of `parts` is absent; looks no further than the first.
    pub fn missing(&self, parts: &PartRanges) -> bool {
        parts.iter().flatten().any(|part| self.store.parts.get(part).unready() == Some(Unready::Absent))
    }

    /// Whether a hold is on the file that this blob reads, and not on one that was discarded.
    pub fn is_of(&self, hold: &PartsHold) -> bool {
        Arc::ptr_eq(&self.store, &hold.store)
    }

    /// The sparse file that has every held part at its place in the blob. It is as long as the blob, and at least one block.
    pub fn data_file(&self) -> &File {
        &self.store.data
    }

    /// Where [`Self::data_file`] lies.
    pub fn data_path(&self) -> PathBuf {
        self.store.dir.join(crate::layout::DATA_FILE)
    }

    /// Changes whenever parts of the blob have become durable, at the latest some seconds after they were filled.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.store.durable.subscribe()
    }

    /// Makes durable what is present. A failure is logged; what it concerns is fetched again.
    pub async fn flush(&self) {
        let (pool, store) = (self.pool.clone(), self.store.clone());
        blocking(move || flush_store(&pool, &store)).await;
    }

    /// Checks those of `parts` that an earlier process left and nobody has read since, and drops what is not sound. False if
    /// something was not, or could not be dropped. What is read does not stay in the page cache.
    pub async fn verify(&self, parts: &PartRanges) -> bool {
        let mut sound = true;
        let mut numbers = parts.iter().flatten();
        loop {
            let store = self.store.clone();
            let of_it = |number: &u64| store.parts.get(*number).unready() == Some(Unready::Unverified);
            let batch: Vec<u64> = numbers.by_ref().filter(of_it).take(VERIFY_BATCH).collect();
            if batch.is_empty() {
                return sound;
            }
            let Some(damaged) = blocking(move || store.damaged(batch)).await else { return false };
            for part in damaged {
                sound = false;
                self.pool.drop_damaged(&self.store, part).await;
            }
        }
    }
}

impl Store {
    /// Checks parts and gives those that are not sound.
    fn damaged(&self, mut numbers: Vec<u64>) -> Vec<u64> {
        // What comes next reads natively, so it is the disk that counts.
        numbers.retain(|&number| self.look_at(number, Look::Disk) == Seen::Damaged);
        numbers
    }
}
