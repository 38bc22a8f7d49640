//! One digest over a directory tree: of the lines `<sha256>  <path>`, sorted by path, as `sha256sum` would print them.

use std::{fmt, fs::File, io::Read, path::Path};

use anyhow::Context;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// What a tree holds. `Display` is one line, equal for equal trees.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree {
    files: u64,
    bytes: u64,
    sha256: String,
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "files={} bytes={} sha256={}", self.files, self.bytes, self.sha256)
    }
}

/// Reads everything below `dir`; `each` gets every file's line.
pub fn tree(dir: &Path, mut each: impl FnMut(&str)) -> anyhow::Result<Tree> {
    let mut paths = Vec::new();
    for entry in WalkDir::new(dir) {
        let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
        if entry.file_type().is_file() {
            paths.push(entry.into_path());
        }
    }
    paths.sort_unstable_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    let mut all = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    for path in &paths {
        let (size, sum) = file(path, &mut buffer).with_context(|| format!("reading {}", path.display()))?;
        let name = path.strip_prefix(dir).unwrap_or(path).display();
        let line = format!("{sum}  {name}\n");
        each(&line);
        all.update(line.as_bytes());
        bytes += size;
    }
    Ok(Tree { files: paths.len() as u64, bytes, sha256: hex::encode(all.finalize()) })
}

fn file(path: &Path, buffer: &mut [u8]) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    loop {
        let n = file.read(buffer)?;
        if n == 0 {
            return Ok((size, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_or_name_changes_the_digest() {
        let dir = tempdir("digest");
        std::fs::create_dir(dir.join("d")).unwrap();
        std::fs::write(dir.join("d/x"), b"one").unwrap();
        let before = tree(&dir, |_| {}).unwrap();
        assert_eq!((before.files, before.bytes), (1, 3));
        std::fs::write(dir.join("d/x"), b"two").unwrap();
        let changed = tree(&dir, |_| {}).unwrap();
        std::fs::write(dir.join("d/x"), b"one").unwrap();
        assert_eq!(tree(&dir, |_| {}).unwrap(), before);
        std::fs::rename(dir.join("d/x"), dir.join("d/y")).unwrap();
        let renamed = tree(&dir, |_| {}).unwrap();
        assert_ne!(before.sha256, changed.sha256);
        assert_ne!(before.sha256, renamed.sha256);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    fn tempdir(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("granary-probe-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        dir
    }
}
