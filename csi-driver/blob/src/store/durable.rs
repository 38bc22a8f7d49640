//! Presence on the disk: parts come into the map after their data was synced, and leave it before their data is freed.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use granary_image::BLOCK_BYTES;

use super::{Store, blocks_bytes};
use crate::layout::punch;
use crate::parts_map::{Entry, page_of};

impl Store {
    /// Syncs the data, then writes and syncs the map. After an error the parts in question are dropped, since a failed sync
    /// says nothing of which bytes the disk has; the number of bytes freed by that comes back beside the error.
    pub(crate) fn flush(&self) -> Result<(), (io::Error, u64)> {
        let _one = self.flushing.lock();
        let mut parts = std::mem::take(&mut *self.dirty.lock());
        self.dirty_bytes.store(0, Relaxed);
        parts.retain(|&part| self.parts.get(part).begin_sync());
        if parts.is_empty() {
            return Ok(());
        }
        if let Err(e) = self.data.sync_data() {
            self.doubt();
            return Err((e, self.drop_unsynced(parts)));
        }
        match self.write_entries(&parts) {
            Ok(()) => {
                self.drop_read_pages(&parts);
                self.durable.send_modify(|flushes| *flushes += 1);
                Ok(())
            }
            Err(e) => {
                self.doubt();
                self.dirty.lock().extend(parts);
                Err((e, 0))
            }
        }
    }

    /// Drops from memory what readers have already: the page cache above the blob holds it.
    fn drop_read_pages(&self, parts: &[u64]) {
        let table = self.table();
        let Some(table) = table.as_ref() else { return };
        for part in parts.iter().filter(|&&part| !self.parts.get(part).is_ahead()).map(|&part| table.part(part)) {
            self.drop_pages(part.blob_offset, u64::from(part.len));
        }
    }

    fn drop_unsynced(&self, parts: Vec<u64>) -> u64 {
        let (claimed, held): (Vec<_>, Vec<_>) = parts.into_iter().partition(|&p| self.parts.get(p).begin_evict());
        for &part in &held {
            self.parts.get(part).doubted();
        }
        self.dirty.lock().extend(held);
        self.evict(claimed).unwrap_or(0)
    }

    fn write_entries(&self, parts: &[u64]) -> io::Result<()> {
        let map = self.map.lock();
        let table = self.table();
        let Some(table) = table.as_ref() else { return Ok(()) };
        for (page, parts) in by_page(parts) {
            let mut page = map.page(page)?;
            for number in parts {
                // One that was evicted since, and perhaps filled again, was not part of the sync.
                let state = self.parts.get(number);
                if state.is_synced() {
                    let part = table.part(number);
                    let block = (part.blob_offset / BLOCK_BYTES) as u32;
                    page.set(number, Some(Entry { block, len: part.len, crc: state.crc() }));
                }
            }
            map.write(page)?;
        }
        map.sync()?;
        parts.iter().for_each(|&part| self.parts.get(part).synced());
        Ok(())
    }

    /// Removes parts that were claimed with [`PartState::begin_evict`]: first durably from the map, then from the data.
    /// Returns the bytes freed; parts that cannot be freed stay.
    pub(crate) fn evict(&self, mut claimed: Vec<u64>) -> io::Result<u64> {
        claimed.sort_unstable();
        let positions = match self.forget(&claimed) {
            Ok(positions) => positions,
            Err(e) => {
                self.doubt();
                claimed.iter().for_each(|&part| self.keep(part));
                return Err(e);
            }
        };
        let mut freed = 0;
        let mut failed = None;
        for run in adjacent(&positions) {
            let (first, last) = (run[0], run[run.len() - 1]);
            match punch(&self.data, first.offset, last.offset + last.bytes - first.offset) {
                Ok(()) => {
                    freed += run.iter().map(|r| r.bytes).sum::<u64>();
                    run.iter().for_each(|r| self.parts.get(r.part).absent());
                }
                Err(e) => {
                    run.iter().for_each(|r| self.keep(r.part));
                    failed = Some(e);
                }
            }
        }
        self.cached.fetch_sub(freed, Relaxed);
        match failed {
            Some(e) if freed == 0 => Err(e),
            _ => Ok(freed),
        }
    }

    fn keep(&self, part: u64) {
        self.parts.get(part).keep();
        self.dirty.lock().push(part);
    }

    /// Takes parts out of the map, durably, and says where they lie.
    fn forget(&self, parts: &[u64]) -> io::Result<Vec<Position>> {
        let map = self.map.lock();
        let table = self.table();
        let mut positions = Vec::with_capacity(parts.len());
        let mut changed = false;
        for (number, parts) in by_page(parts) {
            let mut page = map.page(number)?;
            let mut page_changed = false;
            for part in parts {
                // The page is asked, not the state: a flush may have written an entry after the part was claimed.
                let entry = page.get(part);
                let known = table.as_ref().filter(|t| part < t.part_count()).map(|t| t.part(part).blob_offset);
                let offset = known.or(entry.map(|e| e.offset()));
                let offset = offset.ok_or_else(|| io::Error::other(format!("part {part} has no place")))?;
                let state = self.parts.get(part);
                let bytes = blocks_bytes(state.blocks());
                if state.is_ahead() {
                    self.unused_bytes.fetch_add(bytes, Relaxed);
                }
                positions.push(Position { part, offset, bytes });
                if entry.is_some() {
                    page.set(part, None);
                    page_changed = true;
                }
            }
            if page_changed {
                map.write(page)?;
                changed = true;
            }
        }
        if changed {
            map.sync()?;
        }
        Ok(positions)
    }
}

#[derive(Clone, Copy)]
struct Position {
    part: u64,
    offset: u64,
    bytes: u64,
}

/// Runs of parts that lie side by side in the file.
fn adjacent(positions: &[Position]) -> impl Iterator<Item = &[Position]> {
    positions.chunk_by(|a, b| a.offset + a.bytes == b.offset)
}

pub(super) fn by_page(parts: &[u64]) -> BTreeMap<u64, Vec<u64>> {
    let mut pages = BTreeMap::<u64, Vec<u64>>::new();
    for &part in parts {
        pages.entry(page_of(part)).or_default().push(part);
    }
    pages
}
