//! Metadata of many files, by the tools that people use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Outcome, on_threads};

const THREADS: usize = 8;

/// `find -type f`.
pub(super) fn find(dir: &Path) -> Result<Outcome> {
    run(Command::new("find").arg(dir).args(["-type", "f"]), |line| !line.is_empty())
}

/// `ls -lR`, which also asks for each file's metadata.
pub(super) fn list(dir: &Path) -> Result<Outcome> {
    run(Command::new("ls").arg("-lR").arg(dir), |line| line.first() == Some(&b'-'))
}

/// Runs `command` and counts the lines that name a file.
fn run(command: &mut Command, is_file: impl Fn(&[u8]) -> bool) -> Result<Outcome> {
    use std::io::BufRead;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting find or ls")?;
    let mut lines = std::io::BufReader::with_capacity(1 << 20, child.stdout.take().context("it has an output")?);
    let (mut line, mut count) = (Vec::new(), 0);
    while lines.read_until(b'\n', &mut line)? > 0 {
        count += u64::from(is_file(&line));
        line.clear();
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(Outcome { count, ..Outcome::default() })
}

/// A stat of each file, by eight threads with a share each.
pub(super) fn stat_all(files: &[(PathBuf, u64)]) -> Result<Outcome> {
    on_threads(THREADS, |number| {
        let mut done = Outcome::default();
        for (path, size) in files.chunks(files.len().div_ceil(THREADS)).nth(number).unwrap_or_default() {
            let found = std::fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
            ensure!(found.len() == *size, "{} is said to have {} bytes", path.display(), found.len());
            done.count += 1;
        }
        Ok(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..20).map(|i| (dir.path().join(format!("d{}/f{i}", i % 3)), 1)).collect();
        for (path, _) in &files {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(find(dir.path()).unwrap().count, 20);
        assert_eq!(list(dir.path()).unwrap().count, 20);
        assert_eq!(stat_all(&files).unwrap().count, 20);
        assert_eq!(stat_all(&files[..3]).unwrap().count, 3);
    }
}
