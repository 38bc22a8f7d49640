//! The requests of one FUSE connection that were taken and not answered, in memory that outlives this process.
//!
//! Kernels before Linux 6.9 give a request once: if who took it dies, nobody else gets it, and who asked waits for ever. So the
//! kernel puts each request into a cell of memory that a keeper holds, too, and there it stays until it is answered. A successor
//! finds all that is owed, without a gap. Some of it may have been answered already: the kernel, which gives no number twice,
//! refuses a second answer.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{MemfdFlags, SealFlags};

/// Requests that can be owed at once. Who would take one more waits.
const CELLS: usize = 1024;
/// More than what a read or a name takes, in bytes.
pub(crate) const CELL_BYTES: usize = 512;
const BYTES: usize = CELLS * CELL_BYTES;
/// What is mapped must stay.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::GROW).union(SealFlags::SHRINK);

/// The cells, of which each has at most one owner in this process. An empty one begins with a zero, a request with its length.
pub(crate) struct Journal {
    map: MmapRaw,
    free: Mutex<Vec<usize>>,
    freed: Condvar,
}

/// Memory for a journal, with nothing in it.
pub(crate) fn memory() -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("granary-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memory, BYTES as u64)?;
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

impl Journal {
    /// The journal in `memory`, which is a predecessor's or new, and what is owed in it.
    pub(crate) fn open(memory: &OwnedFd) -> io::Result<(Arc<Self>, Vec<Cell>)> {
        let len = rustix::fs::fstat(memory)?.st_size;
        if len != BYTES as i64 || !rustix::fs::fcntl_get_seals(memory)?.contains(SEALS) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no journal of this release"));
        }
        let map = MmapOptions::new().len(BYTES).map_raw(memory)?;
        let journal = Arc::new(Self { map, free: Mutex::default(), freed: Condvar::new() });
        let is_owed = |nth: &usize| journal.first_word(*nth).load(Ordering::Acquire) > 0;
        // The first are taken first, so that few pages are ever touched.
        let (left, free): (Vec<_>, Vec<_>) = (0..CELLS).rev().partition(is_owed);
        *journal.free.lock() = free;
        let left = left.into_iter().map(|nth| Cell { journal: journal.clone(), nth }).collect();
        Ok((journal, left))
    }

    /// A cell with nothing in it; waits for it.
    pub(crate) fn take(self: &Arc<Self>) -> Cell {
        let mut free = self.free.lock();
        let nth = loop {
            match free.pop() {
                Some(nth) => break nth,
                None => self.freed.wait(&mut free),
            }
        };
        drop(free);
        let cell = Cell { journal: self.clone(), nth };
        // Its page has to be there: the kernel gets none for a process that is being killed, and fails the request.
        cell.clear();
        cell
    }

    fn first_word(&self, nth: usize) -> &AtomicU32 {
        // SAFETY: a cell lies within the map, which is aligned to pages and cannot shrink, and `self` has the map. Only the owner of
        // the cell borrows these bytes otherwise, and it does not call this meanwhile.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(nth * CELL_BYTES).cast()) }
    }
}

/// One cell, until the request in it is answered: when this is dropped, it is empty again.
pub(crate) struct Cell {
    journal: Arc<Journal>,
    nth: usize,
}

impl Cell {
    /// Takes a request from `connection`; waits for it. What a cell has no room for goes to `rest`. Gives the request's length.
    pub(crate) fn fill(&mut self, connection: impl AsFd, rest: &mut [u8]) -> rustix::io::Result<usize> {
        let start = self.journal.map.as_mut_ptr();
        // SAFETY: the cell lies within the map, and nobody else has it.
        let cell = unsafe { slice::from_raw_parts_mut(start.add(self.nth * CELL_BYTES), CELL_BYTES) };
        rustix::io::readv(connection, &mut [IoSliceMut::new(cell), IoSliceMut::new(rest)])
    }

    /// What is in it, and whatever lies behind.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as above; who filled it before was another process, and has ended.
        unsafe { slice::from_raw_parts(self.journal.map.as_ptr().add(self.nth * CELL_BYTES), CELL_BYTES) }
    }

    /// Leaves the request to a successor.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    fn clear(&self) {
        // Not before the answer is with the kernel.
        self.journal.first_word(self.nth).store(0, Ordering::Release);
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.clear();
        self.journal.free.lock().push(self.nth);
        self.journal.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

    use super::*;

    /// A packet whose first word is its length.
    fn packet(text: &str) -> Vec<u8> {
        let len = (4 + text.len()) as u32;
        [&len.to_ne_bytes(), text.as_bytes()].concat()
    }

    /// Somebody who asks, and where it is heard.
    fn pair() -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn filled(journal: &Arc<Journal>, text: &str) -> Cell {
        let (asks, hears) = pair();
        rustix::net::send(&asks, &packet(text), SendFlags::empty()).unwrap();
        let mut cell = journal.take();
        cell.fill(&hears, &mut []).unwrap();
        cell
    }

    #[test]
    fn what_was_taken_is_there_until_it_is_answered() {
        let memory = memory().unwrap();
        let (journal, left) = Journal::open(&memory).unwrap();
        assert!(left.is_empty());
        let [answered, owed, further] = ["answered", "owed", "further"].map(|text| filled(&journal, text));
        drop(answered);
        further.leave();
        let again = filled(&journal, "later");
        drop(again);
        // As another process that comes when this one has ended.
        let (second, left) = Journal::open(&memory).unwrap();
        let found = ["answered", "owed", "further", "later"].map(|text| {
            let packet = packet(text);
            left.iter().filter(|cell| cell.bytes().starts_with(&packet)).count()
        });
        assert_eq!((found, left.len()), ([0, 1, 1, 0], 2));
        assert_eq!(second.free.lock().len(), CELLS - 2, "nobody else gets these");
        drop(left);
        assert!(Journal::open(&memory).unwrap().1.is_empty());
        drop(owed);
    }

    #[test]
    fn what_has_no_room_in_a_cell_is_of_its_true_length() {
        let (journal, _) = Journal::open(&memory().unwrap()).unwrap();
        let (asks, hears) = pair();
        rustix::net::send(&asks, &packet(&"x".repeat(CELL_BYTES)), SendFlags::empty()).unwrap();
        let (mut cell, mut rest) = (journal.take(), [0; 8]);
        cell.fill(&hears, &mut rest).unwrap();
        assert_eq!(&cell.bytes()[..5], [4, 2, 0, 0, b'x']);
        assert_eq!(rest, *b"xxxx\0\0\0\0");
    }

    #[test]
    fn who_wants_more_cells_than_there_are_waits() {
        let (journal, _) = Journal::open(&memory().unwrap()).unwrap();
        let mut cells: Vec<_> = (0..CELLS).map(|_| journal.take()).collect();
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(journal.take().nth).unwrap());
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
            let last = cells.pop().unwrap();
            let nth = last.nth;
            drop(last);
            assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(nth));
        });
    }

    #[test]
    fn what_is_no_journal_is_refused() {
        let unsealed = rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&unsealed, BYTES as u64).unwrap();
        assert!(Journal::open(&unsealed).is_err(), "it could be made shorter at any time");
        let short = rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&short, BYTES as u64 - 1).unwrap();
        rustix::fs::fcntl_add_seals(&short, SEALS).unwrap();
        assert!(Journal::open(&short).is_err());
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES as u64).unwrap();
        assert!(Journal::open(&file.into()).is_err());
    }
}
