//! A model as loaders open it: mapped, and its pages touched.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use memmap2::Mmap;

use super::Outcome;

const PAGE: usize = 4096;

/// Maps the file and touches all of its pages, or only the first.
pub(in super::super) fn map(path: &Path, all: bool) -> Result<Outcome> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    // SAFETY: nothing changes the file: it is of a read-only mount, or of a tree that only this program writes.
    let map = unsafe { Mmap::map(&file) }.with_context(|| format!("mapping {}", path.display()))?;
    let len = if all { map.len() } else { PAGE.min(map.len()) };
    std::hint::black_box(touch_pages(&map[..len]));
    Ok(Outcome { bytes: len as u64, count: 1, ..Outcome::default() })
}

/// A sum over one byte of each page.
fn touch_pages(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(PAGE).map(|byte| u64::from(*byte)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_touched_once() {
        assert_eq!(touch_pages(&[1; 3 * PAGE + 1]), 4);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, vec![0; 3 * PAGE]).unwrap();
        assert_eq!(map(&path, true).unwrap().bytes, 3 * PAGE as u64);
        assert_eq!(map(&path, false).unwrap().bytes, PAGE as u64);
    }
}
