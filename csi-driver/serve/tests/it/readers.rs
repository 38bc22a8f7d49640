//! Readers that check every byte, and count.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::OFlags;

use crate::fixture::forget;

const BLOCK: usize = 4096;
/// Longest read, in bytes.
const LONGEST: usize = 300 << 10;
/// Failures that are remembered by their words.
const REMEMBERED: usize = 10;

/// What all readers have seen.
#[derive(Default)]
pub struct Tally {
    pub reads: AtomicU64,
    pub bytes: AtomicU64,
    pub failures: AtomicU64,
    words: Mutex<Vec<String>>,
    longest_micros: AtomicU64,
    stop: AtomicBool,
}

impl Tally {
    /// What went wrong; empty if nothing did.
    pub fn words(&self) -> Vec<String> {
        self.words.lock().clone()
    }

    /// The longest that a read has taken.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_micros.load(Relaxed))
    }

    fn fail(&self, words: String) {
        self.failures.fetch_add(1, Relaxed);
        let mut all = self.words.lock();
        if all.len() < REMEMBERED {
            all.push(words);
        }
    }
}

/// A file and its bytes.
pub type Content = (String, Vec<u8>);

/// Threads that read until they are dropped.
pub struct Readers {
    pub tally: Arc<Tally>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Each reads anything of `files` below any of `targets`, past all caches.
    pub fn start(count: u64, targets: &[PathBuf], files: &Arc<Vec<Content>>) -> Self {
        let tally = Arc::new(Tally::default());
        let start = |seed| {
            let (tally, targets, files) = (tally.clone(), targets.to_vec(), files.clone());
            std::thread::spawn(move || read_on(Random(seed + 1), &targets, &files, &tally))
        };
        let threads = (0..count).map(start).collect();
        Self { tally, threads }
    }

    /// Waits for all of them.
    pub fn stop(&mut self) {
        self.tally.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Readers {
    /// Does not wait: after a failure, nobody may be there to answer them.
    fn drop(&mut self) {
        self.tally.stop.store(true, Relaxed);
    }
}

fn read_on(mut random: Random, targets: &[PathBuf], files: &[Content], tally: &Tally) {
    while !tally.stop.load(Relaxed) {
        let target = &targets[random.below(targets.len())];
        let (name, expected) = &files[random.below(files.len())];
        let offset = random.below(expected.len());
        let len = (1 + random.below(LONGEST)).min(expected.len() - offset);
        let path = target.join(name);
        let start = Instant::now();
        let found = if random.below(2) == 0 { past_the_cache(&path, offset, len) } else { anew(&path, offset, len) };
        tally.longest_micros.fetch_max(start.elapsed().as_micros() as u64, Relaxed);
        match found {
            Ok(bytes) if bytes == expected[offset..offset + len] => {
                tally.reads.fetch_add(1, Relaxed);
                tally.bytes.fetch_add(len as u64, Relaxed);
            }
            Ok(_) => tally.fail(format!("wrong bytes: {len} at {offset} of {}", path.display())),
            Err(error) => tally.fail(format!("{error}: {len} at {offset} of {}", path.display())),
        }
    }
}

/// Through the page cache, with nothing of the file in it.
fn anew(path: &Path, offset: usize, len: usize) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    forget(&file);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset as u64)?;
    Ok(bytes)
}

fn past_the_cache(path: &Path, offset: usize, len: usize) -> std::io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path)?;
    let begin = offset / BLOCK * BLOCK;
    let whole = (offset + len).next_multiple_of(BLOCK) - begin;
    let mut space = vec![0; whole + BLOCK];
    let aligned = space.as_ptr().align_offset(BLOCK);
    let bytes = &mut space[aligned..aligned + whole];
    let needed = offset + len - begin;
    let mut done = 0;
    while done < needed {
        match file.read_at(&mut bytes[done..], (begin + done) as u64)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(bytes[offset - begin..needed].to_vec())
}

/// Numbers that look random.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
