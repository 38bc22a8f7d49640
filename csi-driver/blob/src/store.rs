//! What the disk has of one blob: the sparse data file, the parts map, and the state of each part.

mod check;
mod description;
mod durable;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwapOption, Guard};
use granary_image::{BLOCK_BYTES, ExtentTable, Part};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use self::check::{Look, Seen};
use self::durable::by_page;
use crate::disk::{self, CacheFile};
use crate::layout::{DATA_FILE, discard_blob, punch};
use crate::parts_map::{Entry, MapError, PartsMap, page_of};
use crate::presence::{PartState, PartStates};
use crate::sync::Mutex;

/// The dataset that a blob is of; kept beside the blob, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobTag {
    /// The dataset's UID.
    pub dataset_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The files of one blob. It outlives the [`Blob`](crate::Blob)s that are opened on it, so that what nobody reads now can
/// be evicted part by part.
pub(crate) struct Store {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) data: CacheFile,
    /// Something failed after which the disk may have other bytes than the page cache: an orderly end vouches for nothing.
    in_doubt: AtomicBool,
    /// Locked while pages are changed.
    map: Mutex<PartsMap>,
    pub(crate) parts: PartStates,
    cached: AtomicU64,
    /// Parts that are present but not in the map.
    dirty: Mutex<Vec<u64>>,
    dirty_bytes: AtomicU64,
    /// Bytes that were fetched ahead and evicted unread.
    unused_bytes: AtomicU64,
    /// Counts flushes that made something durable.
    pub(crate) durable: watch::Sender<u64>,
    flushing: Mutex<()>,
    extending: Mutex<()>,
    table: ArcSwapOption<ExtentTable>,
    tag: Mutex<Option<BlobTag>>,
}

impl Store {
    /// Opens what `dir` has of the blob; what is damaged or of another format is discarded. What is `trusted` needs no check
    /// before it is read. Gives the ranges of which the map says nothing, too: [`Self::free`] frees them.
    pub(crate) fn open(dir: &Path, id: &str, trusted: bool) -> io::Result<(Self, Vec<Range<u64>>)> {
        let create = || Ok((Self::create(dir, id)?, Vec::new()));
        if !dir.join("parts").try_exists()? {
            return create();
        }
        match Self::load(dir, id, trusted) {
            Ok(found) => Ok(found),
            // A disk that cannot read them has no better ones.
            Err(MapError::Io(e)) if e.raw_os_error() != Some(rustix::io::Errno::IO.raw_os_error()) => Err(e),
            Err(why) => {
                tracing::warn!(blob = id, %why, "the parts file is of no use: discarding what the cache has of the blob");
                create()
            }
        }
    }

    /// Discards what `dir` has of the blob. Whoever reads the old data file goes on doing so: it is unlinked as it is.
    pub(crate) fn create(dir: &Path, id: &str) -> io::Result<Self> {
        discard_blob(dir)?;
        disk::make_dir(dir)?;
        let map = PartsMap::create(CacheFile::open(&dir.join("parts"))?, id)?;
        let data = CacheFile::open(&dir.join(DATA_FILE))?;
        // What is made durable in the files is found again by their names.
        disk::sync_dir(dir)?;
        if let Some(blobs) = dir.parent() {
            disk::sync_dir(blobs)?;
        }
        Ok(Self::new(dir, id, data, map))
    }

    fn new(dir: &Path, id: &str, data: CacheFile, map: PartsMap) -> Self {
        Self {
            id: id.to_owned(),
            dir: dir.to_path_buf(),
            data,
            in_doubt: AtomicBool::new(false),
            map: Mutex::new(map),
            parts: PartStates::new(),
            cached: AtomicU64::new(0),
            dirty: Mutex::default(),
            dirty_bytes: AtomicU64::new(0),
            unused_bytes: AtomicU64::new(0),
            durable: watch::Sender::default(),
            flushing: Mutex::default(),
            extending: Mutex::default(),
            table: ArcSwapOption::empty(),
            tag: Mutex::new(description::read(dir)),
        }
    }

    fn load(dir: &Path, id: &str, trusted: bool) -> Result<(Self, Vec<Range<u64>>), MapError> {
        let map = PartsMap::open(CacheFile::open(&dir.join("parts"))?, id)?;
        let store = Self::new(dir, id, CacheFile::open(&dir.join(DATA_FILE))?, map);
        disk::sync_dir(dir)?;
        let data_bytes = store.data.metadata()?.len();
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let damaged = store.map.lock().load(|part, entry| {
            if entry.offset() + u64::from(entry.len) <= data_bytes {
                found.push((part, entry));
            } else {
                lost.push(part);
            }
        })?;
        if !damaged.is_empty() || !lost.is_empty() {
            tracing::warn!(
                blob = id,
                pages = damaged.len(),
                beyond_data = lost.len(),
                "the parts file is damaged: what it does not say soundly is fetched again"
            );
            store.disown(damaged, &lost);
        }
        found.sort_unstable_by_key(|(_, entry)| entry.block);
        if found.windows(2).any(|w| w[0].1.offset() + blocks_bytes(w[0].1.blocks()) > w[1].1.offset()) {
            return Err(MapError::Damaged);
        }
        for (part, entry) in &found {
            store.parts.get(*part).loaded(entry.blocks(), entry.crc, trusted);
            store.cached.fetch_add(blocks_bytes(entry.blocks()), Relaxed);
        }
        Ok((store, between(&found, data_bytes)))
    }

    /// Takes out of the map what is not there, before the data file can grow to where it would be. Damaged pages become empty.
    fn disown(&self, damaged: Vec<u64>, lost: &[u64]) {
        let map = self.map.lock();
        let rewrite = |(number, parts): (u64, Vec<u64>)| {
            let mut page = map.page(number)?;
            parts.into_iter().for_each(|part| page.set(part, None));
            map.write(page)
        };
        let damaged = damaged.into_iter().map(|number| (number, Vec::new()));
        let rewritten = damaged.chain(by_page(lost)).try_for_each(rewrite).and_then(|()| map.sync());
        if let Err(error) = rewritten {
            self.doubt();
            tracing::warn!(blob = self.id, %error, "the parts file cannot be repaired");
        }
    }

    /// From now on the disk may have other bytes than are read here.
    pub(crate) fn doubt(&self) {
        self.in_doubt.store(true, Relaxed);
    }

    /// Whether all that the map says is durable and was checked, so that the next process can trust it.
    pub(crate) fn is_settled(&self) -> bool {
        !self.in_doubt.load(Relaxed) && self.dirty_bytes() == 0 && self.parts.iter().all(|(_, part)| part.is_settled())
    }

    /// Where part `number` lies, by the table or, if nobody has brought one yet, by the map.
    fn place(&self, number: u64) -> io::Result<Option<Place>> {
        if let Some(table) = self.table().as_ref().filter(|table| number < table.part_count()) {
            let part = table.part(number);
            return Ok(Some(Place { offset: part.blob_offset, len: u64::from(part.len) }));
        }
        let entry = self.map.lock().page(page_of(number))?.get(number);
        Ok(entry.map(|entry| Place { offset: entry.offset(), len: u64::from(entry.len) }))
    }

    /// Frees ranges that were written but never came into the map: they cannot be trusted, and must not be uncounted.
    pub(crate) fn free(&self, unknown: &[Range<u64>]) -> io::Result<()> {
        for range in unknown {
            let data = match rustix::fs::seek(&*self.data, rustix::fs::SeekFrom::Data(range.start)) {
                Err(rustix::io::Errno::NXIO) => return Ok(()),
                other => other?,
            };
            if data < range.end {
                punch(&self.data, range.start, range.end - range.start)?;
            }
        }
        Ok(())
    }

    pub(crate) fn table(&self) -> Guard<Option<Arc<ExtentTable>>> {
        self.table.load()
    }

    /// Whether the parts file and `table` say the same of where parts from number `first` on lie.
    pub(crate) fn agrees(&self, table: &ExtentTable, first: u64) -> io::Result<bool> {
        let (mut agrees, mut extent) = (true, 0);
        self.map.lock().load(|number, entry| {
            if (first..table.part_count()).contains(&number) {
                let part = table.part_near(&mut extent, number);
                agrees &= part.blob_offset == entry.offset() && part.len == entry.len;
            }
        })?;
        Ok(agrees)
    }

    /// Sets a table that continues the one before, or any at first. `Some(false)` if there is as long a one already, and
    /// `None` if it fits neither the one before nor the parts file.
    pub(crate) fn extend(&self, table: ExtentTable) -> io::Result<Option<bool>> {
        let _one = self.extending.lock();
        let current = self.table.load_full();
        if let Some(current) = &current {
            if current.extends(&table) {
                return Ok(Some(false));
            }
            if !table.extends(current) {
                return Ok(None);
            }
        }
        if !self.agrees(&table, current.map_or(0, |t| t.part_count()))? {
            return Ok(None);
        }
        // Loop devices, which may be bound to it, are never empty, though a dataset can be.
        let bytes = table.blob_bytes().max(BLOCK_BYTES);
        if self.data.metadata()?.len() < bytes {
            self.data.set_len(bytes)?;
        }
        self.table.store(Some(Arc::new(table)));
        Ok(Some(true))
    }

    pub(crate) fn tag(&self) -> Option<BlobTag> {
        self.tag.lock().clone()
    }

    /// Sets the tag, and keeps it beside the data.
    pub(crate) fn set_tag(&self, tag: BlobTag) -> io::Result<()> {
        let mut known = self.tag.lock();
        if known.as_ref() != Some(&tag) {
            description::write(&self.dir, &tag)?;
            *known = Some(tag);
        }
        Ok(())
    }

    pub(crate) fn state(&self, part: &Part) -> &PartState {
        self.parts.get(part.number)
    }

    /// Bytes of the parts that are present, in whole blocks.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cached.load(Relaxed)
    }

    /// Bytes that wait for [`Self::flush`].
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes.load(Relaxed)
    }

    /// Counts a part whose bytes were written and checked, and makes it present, held by one reader; `ahead` if nobody has
    /// asked for it yet.
    pub(crate) fn filled(&self, part: &Part, crc: u32, now: u32, ahead: bool) {
        let blocks = part.len.div_ceil(BLOCK_BYTES as u32);
        self.cached.fetch_add(blocks_bytes(blocks), Relaxed);
        self.state(part).filled(blocks, crc, now, ahead);
        self.dirty.lock().push(part.number);
        self.dirty_bytes.fetch_add(u64::from(part.len), Relaxed);
    }

    /// Bytes that were fetched ahead and evicted unread, since the store was opened.
    pub(crate) fn unused_bytes(&self) -> u64 {
        self.unused_bytes.load(Relaxed)
    }
}

/// A part's bytes in the data file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// The ranges of the data file before, between and after what was found.
fn between(found: &[(u64, Entry)], data_bytes: u64) -> Vec<Range<u64>> {
    let ends = found.iter().map(|(_, e)| e.offset() + blocks_bytes(e.blocks()));
    let starts = found.iter().map(|(_, e)| e.offset()).chain([data_bytes]);
    [0].into_iter().chain(ends).zip(starts).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect()
}

fn blocks_bytes(blocks: u32) -> u64 {
    u64::from(blocks) * BLOCK_BYTES
}
