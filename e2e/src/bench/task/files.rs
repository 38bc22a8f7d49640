//! Many files, each read whole, by several readers.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};

use super::{Deadline, Outcome, on_threads};

/// Reads `files` in order, each reader taking the next one.
pub(super) fn read(files: &[(PathBuf, u64)], readers: usize, deadline: Deadline) -> Result<Outcome> {
    let next = AtomicUsize::new(0);
    on_threads(readers, |_| {
        let mut done = Outcome::default();
        let mut buffer = vec![0; 1 << 20];
        while let Some((path, size)) = files.get(next.fetch_add(1, Relaxed))
            && !deadline.is_over()
        {
            let got = read_file(path, &mut buffer).with_context(|| format!("reading {}", path.display()))?;
            ensure!(got == *size, "{} has {got} bytes, not {size}", path.display());
            done.bytes += got;
            done.count += 1;
        }
        Ok(done)
    })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn three(dir: &Path) -> Vec<(PathBuf, u64)> {
        let files: Vec<_> = (0..3).map(|i| (dir.join(i.to_string()), 10)).collect();
        files.iter().for_each(|(path, _)| std::fs::write(path, [1; 10]).unwrap());
        files
    }

    #[test]
    fn each_file_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let done = read(&three(dir.path()), 2, Deadline::after(Duration::from_secs(60))).unwrap();
        assert_eq!((done.count, done.bytes), (3, 30));
    }

    #[test]
    fn a_short_file_is_an_error_and_a_late_reader_stops() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = three(dir.path());
        assert_eq!(read(&files, 2, Deadline::after(Duration::ZERO)).unwrap().count, 0);
        files[1].1 = 11;
        let error = read(&files, 1, Deadline::after(Duration::from_secs(60))).unwrap_err();
        assert!(error.to_string().contains("10 bytes, not 11"), "{error}");
    }
}
