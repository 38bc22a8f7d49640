//! A pool of blobs in one directory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use granary_image::{BLOCK_BYTES, ExtentTable};

use crate::blob::Blob;
use crate::budget::{self, Budget, PoolConfig, PoolUsage, SpaceProbe, filesystem_space};
use crate::error::PoolError;
use crate::hold::{Claim, PartsHold};
use crate::layout::Layout;
use crate::maintain;
use crate::origin::Origin;
use crate::scrub::Scrub;
use crate::share::Shares;
use crate::store::{BlobTag, Store};
use crate::sync::{Handle, Mutex, Notify};
use crate::turnover::Turnover;

/// Counted for the map, the directory and the small files of each blob.
const BLOB_OVERHEAD: u64 = 4 * BLOCK_BYTES;

/// What a pool holds of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobUsage {
    /// The dataset that it is of.
    pub tag: BlobTag,
    /// The blob's id.
    pub blob_id: String,
    /// Bytes of it in the cache, in whole blocks.
    pub cached_bytes: u64,
}

/// See [`Pool::set_give_back`].
type GiveBack = Box<dyn Fn() -> bool + Send + Sync>;

/// One cache directory with its limits.
///
/// Its background work (making parts durable, keeping the limits when others fill the disk) lasts as long as it does.
pub struct Pool {
    layout: Layout,
    pub(crate) budget: Arc<Budget>,
    slots: Mutex<HashMap<String, Slot>>,
    /// Counts uses of parts: what was used last has the largest value.
    clock: AtomicU32,
    /// Held by those who wait for room, so that one eviction serves them in turn.
    pub(crate) room: tokio::sync::Mutex<()>,
    /// Held while parts are chosen and evicted.
    pub(crate) evictor: Mutex<()>,
    /// Told when parts stop being busy without having become present.
    pub(crate) evicted: Notify,
    /// Told when background work should not wait for its time.
    pub(crate) hurry: Arc<Notify>,
    pub(crate) shares: Shares,
    pub(crate) turnover: Turnover,
    /// Where what nobody waits for is fetched.
    pub(crate) runtime: Handle,
    give_back: OnceLock<GiveBack>,
    pub(crate) scrub: Scrub,
    /// So many writes to data files go well, and all others fail.
    #[cfg(test)]
    pub(crate) write_error: Mutex<Option<(usize, io::ErrorKind)>>,
}

struct Slot {
    store: Arc<Store>,
    open: Weak<Blob>,
}

impl Pool {
    /// Opens the cache in `config.dir`, making it where it is missing.
    ///
    /// # Panics
    /// Outside of a tokio runtime, where its background work goes on.
    pub fn open(config: PoolConfig) -> Result<Arc<Pool>, PoolError> {
        Ok(Self::open_claimed(config, &[], Shares::default())?.0)
    }

    /// As [`Self::open`], where the kernel may go on reading what an earlier process gave it: nothing that `claims` name is
    /// ever freed below it. It is held from the start, by one hold for each claim; where the map does not know all of it,
    /// there is none, and the blob begins anew in other files, while the old ones stay as they are for those who have them.
    /// What its datasets may have at once is their share among all of `shares`.
    pub fn open_claimed(
        config: PoolConfig,
        claims: &[Claim],
        shares: Shares,
    ) -> Result<(Arc<Pool>, Vec<Option<PartsHold>>), PoolError> {
        let layout = Layout::open(&config.dir)?;
        let dir = File::open(&config.dir).map_err(|e| PoolError::io("open", &config.dir, &config.dir, e))?;
        Self::open_at(config, layout, Box::new(move || filesystem_space(&dir)), claims, shares)
    }

    #[cfg(test)]
    pub(crate) fn open_with(
        config: PoolConfig,
        layout: Layout,
        probe: SpaceProbe,
        shares: Shares,
    ) -> Result<Arc<Pool>, PoolError> {
        Ok(Self::open_at(config, layout, probe, &[], shares)?.0)
    }

    #[cfg(test)]
    pub(crate) fn fail_write(&self) -> io::Result<()> {
        match &mut *self.write_error.lock() {
            Some((0, kind)) => Err((*kind).into()),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn open_at(
        config: PoolConfig,
        layout: Layout,
        probe: SpaceProbe,
        claims: &[Claim],
        shares: Shares,
    ) -> Result<(Arc<Pool>, Vec<Option<PartsHold>>), PoolError> {
        let fail = |action, path: &Path, e| PoolError::io(action, &config.dir, path, e);
        let budget = Arc::new(Budget::new(&config, probe));
        let space = budget.space().map_err(|e| fail("ask for the free space of", &config.dir, e))?;
        budget::check(&config, space)?;
        let mut slots = HashMap::new();
        let mut holds: Vec<_> = claims.iter().map(|_| None).collect();
        for id in layout.blob_ids()? {
            let dir = layout.blob_dir(&id)?;
            let claimed = |claim: &&Claim| claim.blob_id == id;
            let own: Vec<_> = claims.iter().filter(claimed).collect();
            let (store, own) = open_store(&dir, &id, layout.trusts(&id), &own).map_err(|e| fail("open", &dir, e))?;
            budget.add(store.cached_bytes() + BLOB_OVERHEAD);
            slots.insert(id.clone(), Slot { store, open: Weak::new() });
            let places = holds.iter_mut().zip(claims).filter(|(_, claim)| claim.blob_id == id).map(|(place, _)| place);
            places.zip(own).for_each(|(place, hold)| *place = Some(hold));
        }
        let pool = Arc::new(Pool {
            layout,
            budget,
            slots: Mutex::new(slots),
            clock: AtomicU32::new(0),
            room: tokio::sync::Mutex::default(),
            evictor: Mutex::default(),
            evicted: Notify::new(),
            hurry: Arc::default(),
            shares,
            turnover: Turnover::default(),
            runtime: Handle::current(),
            give_back: OnceLock::new(),
            scrub: Scrub::default(),
            #[cfg(test)]
            write_error: Mutex::default(),
        });
        if pool.usage().used_bytes == 0 && pool.usage().free_bytes == 0 {
            tracing::warn!(dir = %config.dir.display(), "no room for the cache above the free-space floor: reads go uncached");
        }
        maintain::start(&pool);
        Ok((pool, holds))
    }

    /// Has `give_back` asked when room is needed that nobody's parts but held ones have. It drops a hold, once nobody reads
    /// by it any more, and says whether it did. It may block; a later call of this changes nothing.
    pub fn set_give_back(&self, give_back: impl Fn() -> bool + Send + Sync + 'static) {
        // A second one would be the first one's twin.
        let _ = self.give_back.set(Box::new(give_back));
    }

    /// Whether somebody gave a hold back.
    pub(crate) fn give_back(&self) -> bool {
        self.give_back.get().is_some_and(|give_back| give_back())
    }

    /// Sets new limits. What is too much by them is evicted soon. The directory stays: another one is an error.
    pub fn reconfigure(&self, config: &PoolConfig) -> Result<(), PoolError> {
        if config.dir != self.layout.dir {
            return Err(PoolError::OtherDirectory { current: self.layout.dir.clone(), wanted: config.dir.clone() });
        }
        let space =
            self.budget.space().map_err(|e| PoolError::io("ask for the free space of", &config.dir, &config.dir, e))?;
        budget::check(config, space)?;
        self.budget.reconfigure(config);
        self.hurry.notify_one();
        Ok(())
    }

    /// What the pool takes and may take.
    pub fn usage(&self) -> PoolUsage {
        self.budget.usage()
    }

    /// Opens or creates the blob of `table`. While it is open, this gives the same `Arc`; a table that continues the one in
    /// use takes its place then, together with its `origin`, which must know the sources of all of the blob's objects.
    pub fn blob(
        self: &Arc<Self>,
        tag: BlobTag,
        table: ExtentTable,
        origin: Arc<dyn Origin>,
    ) -> Result<Arc<Blob>, PoolError> {
        let id = table.blob_id().to_owned();
        let mut slots = self.slots.lock();
        if let Some((store, blob)) = slots.get(&id).and_then(|slot| Some((slot.store.clone(), slot.open.upgrade()?))) {
            drop(slots);
            blob.extend_with(table, origin)?;
            self.set_tag(&store, tag)?;
            return Ok(blob);
        }
        let dir = self.layout.blob_dir(&id)?;
        let store = match slots.get(&id) {
            Some(slot) => self.reopen(slot.store.clone(), &table)?,
            None => {
                let (store, _) = Store::open(&dir, &id, false).map_err(|e| self.io("create", &dir, e))?;
                self.budget.add(BLOB_OVERHEAD);
                Arc::new(store)
            }
        };
        // In its place at once: whatever fails now, what it takes stays counted.
        slots.insert(id, Slot { store: store.clone(), open: Weak::new() });
        self.set_table(&store, table)?;
        self.set_tag(&store, tag)?;
        let blob = Arc::new(Blob::new(self.clone(), store.clone(), origin));
        slots.insert(store.id.clone(), Slot { store, open: Arc::downgrade(&blob) });
        Ok(blob)
    }

    /// A blob that nobody has open. If what an earlier process left disagrees with the table, it is discarded.
    fn reopen(&self, store: Arc<Store>, table: &ExtentTable) -> Result<Arc<Store>, PoolError> {
        let io = |e| self.io("read the parts of", &store.dir, e);
        if store.table().is_some() || store.agrees(table, 0).map_err(io)? {
            return Ok(store);
        }
        tracing::warn!(
            blob = store.id,
            "the parts file disagrees with the extent table: discarding what the cache has of the blob"
        );
        let _no_eviction = self.evictor.lock();
        let new = Store::create(&store.dir, &store.id).map_err(|e| self.io("create", &store.dir, e))?;
        // An eviction that knows the store already must find nothing in it: this counts its bytes as free.
        store.parts.iter().for_each(|(_, part)| {
            part.begin_evict();
        });
        self.budget.release(store.cached_bytes());
        Ok(Arc::new(new))
    }

    /// Gives a store a table that continues the one it has. False if it has as long a one already.
    pub(crate) fn set_table(&self, store: &Store, table: ExtentTable) -> Result<bool, PoolError> {
        let blob_bytes = table.blob_bytes();
        match store.extend(table) {
            Ok(extended) => extended.ok_or_else(|| PoolError::TableMismatch(store.id.clone())),
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                Err(PoolError::BlobTooLarge { id: store.id.clone(), bytes: blob_bytes })
            }
            Err(e) => Err(self.io("extend", &store.dir, e)),
        }
    }

    fn set_tag(&self, store: &Store, tag: BlobTag) -> Result<(), PoolError> {
        store.set_tag(tag).map_err(|e| self.io("write the description of", &store.dir, e))
    }

    fn io(&self, action: &'static str, path: &Path, e: io::Error) -> PoolError {
        PoolError::io(action, &self.layout.dir, path, e)
    }

    /// All blobs that have a place in the pool, open or not, by id.
    pub fn blobs(&self) -> Vec<BlobUsage> {
        let slots = self.slots.lock();
        let mut blobs: Vec<_> = slots
            .iter()
            .filter_map(|(id, slot)| {
                Some(BlobUsage {
                    // Without one, nothing was ever read through the blob.
                    tag: slot.store.tag()?,
                    blob_id: id.clone(),
                    cached_bytes: slot.store.cached_bytes(),
                })
            })
            .collect();
        blobs.sort_by(|a, b| a.blob_id.cmp(&b.blob_id));
        blobs
    }

    /// Makes durable what is present. Failures are logged; what they concern is fetched again.
    pub async fn flush(self: &Arc<Self>) {
        maintain::flush(self).await;
    }

    /// Makes everything durable, and lets the next process trust what was checked here. To be called at an orderly end.
    pub async fn close(self: &Arc<Self>) {
        self.scrub.end().await;
        self.flush().await;
        let pool = self.clone();
        let mark = move || {
            let settled = pool.stores().into_iter().filter(|store| store.is_settled());
            pool.layout.mark_clean(&settled.map(|store| store.id.clone()).collect())
        };
        let marked = maintain::blocking(mark).await;
        if let Some(Err(error)) = marked {
            tracing::warn!(dir = %self.layout.dir.display(), %error, "the next start will check what the cache has");
        }
    }

    /// The blob that reads `store`, if one is open.
    pub(crate) fn open_blob(&self, store: &Arc<Store>) -> Option<Arc<Blob>> {
        let slots = self.slots.lock();
        slots.get(&store.id).filter(|slot| Arc::ptr_eq(&slot.store, store))?.open.upgrade()
    }

    pub(crate) fn stores(&self) -> Vec<Arc<Store>> {
        self.slots.lock().values().map(|slot| slot.store.clone()).collect()
    }

    /// Removes the files of blobs that are not open and of which nothing is left.
    pub(crate) fn remove_empty(&self) {
        let mut slots = self.slots.lock();
        let _no_eviction = self.evictor.lock();
        slots.retain(|id, slot| {
            if slot.open.strong_count() > 0 || slot.store.cached_bytes() > 0 {
                return true;
            }
            match crate::layout::discard_blob(&slot.store.dir) {
                Ok(()) => {
                    self.budget.release(BLOB_OVERHEAD);
                    false
                }
                Err(error) => {
                    tracing::warn!(blob = id, %error, "cannot remove an empty blob");
                    true
                }
            }
        });
    }

    /// The time by the pool's clock, which this advances.
    pub(crate) fn tick(&self) -> u32 {
        self.clock.fetch_add(1, Relaxed)
    }
}

/// Opens a blob's files, and holds what is claimed of it before anything is freed.
fn open_store(dir: &Path, id: &str, trusted: bool, claims: &[&Claim]) -> io::Result<(Arc<Store>, Vec<PartsHold>)> {
    let (store, unknown) = Store::open(dir, id, trusted)?;
    let store = Arc::new(store);
    if let Some(holds) = store.claimed(claims) {
        store.free(&unknown)?;
        return Ok((store, holds));
    }
    tracing::warn!(
        blob = id,
        "somebody reads parts that are not in the map: leaving the files to them, and starting anew"
    );
    Ok((Arc::new(Store::create(dir, id)?), Vec::new()))
}
