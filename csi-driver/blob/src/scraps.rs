//! Parts of which only some bytes were fetched, by reads that looked random.

use std::collections::HashSet;

use crate::sync::Mutex;

/// Parts that are remembered; then it starts anew.
const MOST: usize = 4096;

/// Remembers parts. A second read in one of them fetches it whole: it may be random, but there is more to come.
#[derive(Default)]
pub(crate) struct Scraps {
    seen: Mutex<HashSet<u64>>,
}

impl Scraps {
    /// Whether the part was not asked for before.
    pub(crate) fn is_first(&self, part: u64) -> bool {
        let mut seen = self.seen.lock();
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(part)
    }
}
