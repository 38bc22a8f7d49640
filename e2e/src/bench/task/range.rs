//! Parts of one big file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Deadline, Outcome, on_threads};

/// What one read asks for.
const BLOCK: u64 = 1 << 20;
/// Threads of random reading.
const THREADS: usize = 8;

/// From start to end; each of the readers has an equal share.
pub(super) fn sequential(path: &Path, readers: u64, deadline: Deadline) -> Result<Outcome> {
    let (file, size) = open(path)?;
    let share = (size / readers).next_multiple_of(BLOCK);
    on_threads(usize::try_from(readers)?, |number| {
        let mut buffer = vec![0; BLOCK as usize];
        let start = number as u64 * share;
        let (mut at, end) = (start, (start + share).min(size));
        while at < end && !deadline.is_over() {
            let want = BLOCK.min(end - at) as usize;
            file.read_exact_at(&mut buffer[..want], at).with_context(|| format!("reading at {at}"))?;
            at += want as u64;
        }
        Ok(Outcome { bytes: at.saturating_sub(start), ..Outcome::default() })
    })
}

/// `reads` blocks at places that are the same in every run.
pub(super) fn random(path: &Path, block: usize, reads: usize, deadline: Deadline) -> Result<Outcome> {
    let (file, size) = open(path)?;
    let mut random = StdRng::seed_from_u64(20_251_125);
    let places: Vec<u64> = (0..reads).map(|_| random.random_range(0..size / block as u64) * block as u64).collect();
    let next = AtomicUsize::new(0);
    on_threads(THREADS, |_| {
        let mut buffer = vec![0; block];
        let mut done = Outcome::default();
        while let Some(place) = places.get(next.fetch_add(1, Relaxed))
            && !deadline.is_over()
        {
            file.read_exact_at(&mut buffer, *place).with_context(|| format!("reading at {place}"))?;
            done.count += 1;
            done.bytes += block as u64;
        }
        Ok(done)
    })
}

/// Opens the file and reads its first 4 KiB.
pub(super) fn first_byte(path: &Path) -> Result<Outcome> {
    let mut buffer = [0; 4096];
    open(path)?.0.read_exact_at(&mut buffer, 0).context("reading the first bytes")?;
    Ok(Outcome { bytes: 4096, count: 1, ..Outcome::default() })
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn readers_share_a_file_and_read_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        File::create(&path).unwrap().set_len(5 * BLOCK + 17).unwrap();
        let soon = || Deadline::after(Duration::from_secs(60));
        for readers in [1, 2, 8] {
            assert_eq!(sequential(&path, readers, soon()).unwrap().bytes, 5 * BLOCK + 17, "{readers}");
        }
        assert_eq!(random(&path, 4096, 100, soon()).unwrap().count, 100);
        assert_eq!(first_byte(&path).unwrap().bytes, 4096);
    }
}
