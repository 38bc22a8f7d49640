//! Buffers of reads, used again: a fresh megabyte from the allocator costs more than filling it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

/// Buffers that are kept while nobody needs them: what idle blobs cost, all together.
const KEPT: usize = 16;

/// Buffers of one length, shared by all blobs.
pub(crate) struct Buffers {
    len: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        Arc::new(Self { len, free: Mutex::default() })
    }

    /// A buffer of `len` bytes with anything in it. `None` if that is more than a buffer has.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Option<Buffer> {
        if len > self.len {
            return None;
        }
        let bytes = self.free.lock().pop().unwrap_or_else(|| vec![0; self.len]);
        Some(Buffer { bytes, len, home: self.clone() })
    }
}

/// A buffer that returns when dropped.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_up_to_a_number() {
        let buffers = Buffers::new(100);
        let mut first = buffers.take(10).unwrap();
        first[9] = 7;
        let place = first.as_ptr();
        drop(first);
        let again = buffers.take(100).unwrap();
        assert_eq!((again.as_ptr(), again[9], again.len()), (place, 7, 100));
        drop(again);
        assert!(buffers.take(101).is_none());
        drop((0..2 * KEPT).map(|_| buffers.take(1)).collect::<Vec<_>>());
        assert_eq!(buffers.free.lock().len(), KEPT);
    }
}
