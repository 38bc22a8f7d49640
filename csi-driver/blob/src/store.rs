//! What the disk has of one blob: the sparse data file, the parts map, and the state of each part.

mod durable;

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwapOption, Guard};
use granary_image::{BLOCK_BYTES, ExtentTable, Part};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::layout::{DATA_FILE, discard_blob, open_private, punch};
use crate::parts_map::{Entry, MapError, PartsMap};
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
    pub(crate) data: File,
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
            Err(MapError::Io(e)) => Err(e),
            Err(why) => {
                tracing::warn!(blob = id, %why, "the parts file is of no use: discarding what the cache has of the blob");
                create()
            }
        }
    }

    /// Discards what `dir` has of the blob. Whoever reads the old data file goes on doing so: it is unlinked as it is.
    pub(crate) fn create(dir: &Path, id: &str) -> io::Result<Self> {
        discard_blob(dir)?;
        fs::create_dir_all(dir)?;
        rustix::fs::chmod(dir, rustix::fs::Mode::RWXU)?;
        let map = PartsMap::create(open_private(&dir.join("parts"))?, id)?;
        Ok(Self::new(dir, id, open_private(&dir.join(DATA_FILE))?, map))
    }

    fn new(dir: &Path, id: &str, data: File, map: PartsMap) -> Self {
        Self {
            id: id.to_owned(),
            dir: dir.to_path_buf(),
            data,
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
            tag: Mutex::new(read_tag(dir)),
        }
    }

    fn load(dir: &Path, id: &str, trusted: bool) -> Result<(Self, Vec<Range<u64>>), MapError> {
        let store = Self::new(
            dir,
            id,
            open_private(&dir.join(DATA_FILE))?,
            PartsMap::open(open_private(&dir.join("parts"))?, id)?,
        );
        let data_bytes = store.data.metadata()?.len();
        let mut found = Vec::new();
        let damaged = store.map.lock().load(|part, entry| {
            if entry.offset() + u64::from(entry.len) <= data_bytes {
                found.push((part, entry));
            }
        })?;
        if damaged > 0 {
            tracing::warn!(
                blob = id,
                pages = damaged,
                "the parts file is damaged: what these pages say is fetched again"
            );
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

    /// Frees ranges that were written but never came into the map: they cannot be trusted, and must not be uncounted.
    pub(crate) fn free(&self, unknown: &[Range<u64>]) -> io::Result<()> {
        for range in unknown {
            let data = match rustix::fs::seek(&self.data, rustix::fs::SeekFrom::Data(range.start)) {
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
            let new = self.dir.join("meta.json.new");
            let mut file = open_private(&new)?;
            file.set_len(0)?;
            file.write_all(&serde_json::to_vec(&tag)?)?;
            fs::rename(&new, self.dir.join("meta.json"))?;
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

    /// As [`Self::verify`]; a part that is sound needs no further check.
    pub(crate) fn check(&self, part: &Part) -> bool {
        let sound = self.verify(part);
        if sound {
            self.state(part).verified();
        }
        sound
    }

    /// Whether the part's bytes in the file match its checksum.
    fn verify(&self, part: &Part) -> bool {
        let mut buffer = vec![0; (128 << 10).min(part.len as usize)];
        let (mut at, end) = (part.blob_offset, part.blob_offset + u64::from(part.len));
        let mut crc = 0;
        while at < end {
            let chunk = buffer.len().min((end - at) as usize);
            if self.data.read_exact_at(&mut buffer[..chunk], at).is_err() {
                return false;
            }
            crc = crc32c::crc32c_append(crc, &buffer[..chunk]);
            at += chunk as u64;
        }
        crc == self.state(part).crc()
    }
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

fn read_tag(dir: &Path) -> Option<BlobTag> {
    serde_json::from_slice(&fs::read(dir.join("meta.json")).ok()?).ok()
}
