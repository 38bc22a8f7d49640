//! Reads a mounted dataset without end, several readers at once, and compares each piece with what it has to be
//! ([`granary_probe::content`]). What was read is dropped from the page cache, so that the next read of it is one of the mount.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use granary_probe::content::{ALIGNMENT, fill, mix};
use rustix::fs::Advice;
use serde::Serialize;
use walkdir::WalkDir;

const READERS: usize = 4;
/// Bytes of a read.
const PIECE: u64 = 64 << 10;
/// A reader's pause between two reads: it is not speed that is looked at.
const PAUSE: Duration = Duration::from_millis(50);
/// A read that takes this long is reported.
const SLOW: Duration = Duration::from_millis(100);
/// How often the report is written.
const REPORT: Duration = Duration::from_millis(100);

/// A file that is read.
struct Target {
    path: PathBuf,
    /// What its content follows from.
    name: String,
    bytes: u64,
}

/// What was seen since the beginning.
#[derive(Default, Serialize)]
struct Report {
    /// Reads that ended, of each reader.
    reads: [u64; READERS],
    /// Milliseconds that each slow read took.
    slow: Vec<u128>,
    /// Each read that failed or gave wrong bytes.
    failures: Vec<String>,
}

/// Reads what is in `dir` until the program is killed, and keeps a report in the file `report`. The file `unread` is left out.
pub fn watch(dir: &Path, report: &Path, unread: Option<&str>) -> anyhow::Result<()> {
    let mut targets = targets(dir)?;
    targets.retain(|target| unread != Some(target.name.as_str()));
    ensure!(!targets.is_empty(), "{} has nothing to read", dir.display());
    let (targets, seen) = (Arc::new(targets), Arc::new(Mutex::new(Report::default())));
    for reader in 0..READERS {
        let (targets, seen) = (targets.clone(), seen.clone());
        std::thread::spawn(move || read_on(reader, &targets, &seen));
    }
    let partial = report.with_extension("part");
    loop {
        let text = serde_json::to_vec(&*seen.lock().unwrap_or_else(PoisonError::into_inner))?;
        std::fs::write(&partial, text).context("writing the report")?;
        std::fs::rename(&partial, report).context("naming the report")?;
        std::thread::sleep(REPORT);
    }
}

fn targets(dir: &Path) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for entry in WalkDir::new(dir) {
        let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
        let bytes = entry.metadata()?.len();
        if entry.file_type().is_file() && bytes > 0 {
            let name = entry.path().strip_prefix(dir)?.display().to_string();
            targets.push(Target { path: entry.into_path(), name, bytes });
        }
    }
    Ok(targets)
}

fn read_on(reader: usize, targets: &[Target], seen: &Mutex<Report>) {
    for nth in 0.. {
        let random = mix(nth ^ (reader as u64) << 48);
        let target = &targets[(random % targets.len() as u64) as usize];
        let begun = Instant::now();
        let result = target.read(mix(random));
        let took = begun.elapsed();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.reads[reader] += 1;
        if took >= SLOW {
            seen.slow.push(took.as_millis());
        }
        if let Err(error) = result {
            seen.failures.push(format!("{error:#}"));
        }
        drop(seen);
        std::thread::sleep(PAUSE);
    }
}

impl Target {
    /// Reads a piece that a random number chooses, and compares it.
    fn read(&self, random: u64) -> anyhow::Result<()> {
        let offset = random % self.bytes / ALIGNMENT * ALIGNMENT;
        let len = PIECE.min(self.bytes - offset) as usize;
        let (mut is, mut has_to_be) = (vec![0; len], vec![0; len]);
        let what = || format!("{len} bytes at {offset} of {}", self.path.display());
        let file = File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))?;
        file.read_exact_at(&mut is, offset).with_context(|| format!("reading {}", what()))?;
        fill(&self.name, offset, &mut has_to_be);
        ensure!(is == has_to_be, "wrong: {}", what());
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).context("dropping what was read")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_and_a_missing_file_are_seen() {
        let path = std::env::temp_dir().join(format!("granary-probe-watch-{}", std::process::id()));
        let mut bytes = vec![0; 1000];
        fill("a", 0, &mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let target = Target { path, name: "a".into(), bytes: 1000 };
        target.read(0).unwrap();
        target.read(995).unwrap();
        bytes[999] ^= 1;
        std::fs::write(&target.path, &bytes).unwrap();
        let wrong = target.read(0).unwrap_err().to_string();
        std::fs::remove_file(&target.path).unwrap();
        assert!(wrong.starts_with("wrong: 1000 bytes at 0 of "), "{wrong}");
        assert!(target.read(0).is_err());
    }
}
