//! What the benchmark reads: one big object, or many small ones by several readers.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};

pub(super) const BIG_BYTES: u64 = 2 << 30;
pub(super) const SMALL_FILES: u64 = 20_000;
pub(super) const SMALL_BYTES: u64 = 100_000;
const READERS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// One object of 2 GiB, read from start to end.
    Big,
    /// 20,000 objects of 100 KB in 20 directories, by 8 readers.
    Small,
}

/// What was read.
pub(super) struct Done {
    files: u64,
    bytes: u64,
}

impl Done {
    /// In the unit of the load: bytes or files.
    pub(super) fn amount(&self, load: Load) -> f64 {
        match load {
            Load::Big => self.bytes as f64,
            Load::Small => self.files as f64,
        }
    }
}

impl Load {
    /// The prefix in the bucket `bench`.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Big => "big",
            Self::Small => "small",
        }
    }

    /// Keys below the prefix, with their sizes.
    pub(super) fn objects(self) -> Vec<(String, u64)> {
        match self {
            Self::Big => vec![("0.bin".into(), BIG_BYTES)],
            Self::Small => (0..SMALL_FILES).map(|i| (format!("d{:02}/f{i:05}.bin", i / 1000), SMALL_BYTES)).collect(),
        }
    }

    /// Reads everything below `dir`.
    pub(super) fn read(self, dir: &Path) -> Result<Done> {
        let files: Vec<(PathBuf, u64)> = self.objects().into_iter().map(|(key, size)| (dir.join(key), size)).collect();
        let readers = if self == Self::Big { 1 } else { READERS };
        let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                let mut buffer = vec![0; 1 << 20];
                while let Some((path, size)) = files.get(next.fetch_add(1, Relaxed)) {
                    let got = read_file(path, &mut buffer).with_context(|| format!("reading {}", path.display()))?;
                    ensure!(got == *size, "{} has {got} bytes, not {size}", path.display());
                    bytes.fetch_add(got, Relaxed);
                }
                Ok(())
            };
            let threads: Vec<_> = (0..readers).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        Ok(Done { files: files.len() as u64, bytes: bytes.into_inner() })
    }
}

fn read_file(path: &Path, buffer: &mut [u8]) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let mut total = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(total),
            n => total += n as u64,
        }
    }
}
