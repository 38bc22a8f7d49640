//! The mark of an orderly end: which blobs the last process left with everything durable and checked. It is good for one
//! start, and gone before anything changes: a crash from then on must not find it.
//!
//! A line with the CRC32C of what follows it, then the ids of the blobs, a line each.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::disk::{self, CacheFile};

pub(super) const FILE: &str = "clean";
const HEAD: &str = "granary-clean 1 ";
/// Longer than any: a node has some hundred blobs.
const MOST: u64 = 16 << 20;

/// Reads the mark and removes it. A damaged one is as none.
pub(super) fn take(dir: &Path) -> io::Result<BTreeSet<String>> {
    let path = dir.join(FILE);
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        // Nothing that can be trusted.
        Err(_) => bytes.clear(),
        Ok(_) => {}
    }
    disk::remove_file(&path)?;
    disk::sync_dir(dir)?;
    let ids = parse(&bytes);
    if ids.is_none() {
        tracing::warn!(dir = %dir.display(), "the mark of an orderly end is damaged: checking what the cache has");
    }
    Ok(ids.unwrap_or_default())
}

fn parse(bytes: &[u8]) -> Option<BTreeSet<String>> {
    let (head, ids) = str::from_utf8(bytes).ok()?.split_once('\n')?;
    let crc = u32::from_str_radix(head.strip_prefix(HEAD)?, 16).ok()?;
    (crc == crc32c::crc32c(ids.as_bytes())).then(|| ids.lines().map(str::to_owned).collect())
}

/// Writes the mark; durable when this returns.
pub(super) fn write(dir: &Path, blob_ids: &BTreeSet<String>) -> io::Result<()> {
    let ids: String = blob_ids.iter().flat_map(|id| [id, "\n"]).collect();
    let text = format!("{HEAD}{:08x}\n{ids}", crc32c::crc32c(ids.as_bytes()));
    let file = CacheFile::open(&dir.join(FILE))?;
    file.set_len(0)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.sync_data()?;
    disk::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    #[test]
    fn the_mark_of_an_orderly_end_is_good_for_one_start() {
        let root = tempfile::tempdir().expect("temporary directory");
        let trusts = |layout: &Layout| ["a", "b", "c"].map(|id| layout.trusts(id));
        let layout = Layout::open(root.path()).expect("open");
        assert_eq!(trusts(&layout), [false; 3]);
        layout.mark_clean(&ids(&["a", "c"])).expect("mark");
        drop(layout);
        let layout = Layout::open(root.path()).expect("open");
        assert_eq!(trusts(&layout), [true, false, true]);
        drop(layout);
        assert_eq!(trusts(&Layout::open(root.path()).expect("open")), [false; 3]);
    }

    #[test]
    fn a_damaged_mark_is_none() {
        let root = tempfile::tempdir().expect("temporary directory");
        write(root.path(), &ids(&["a", "b"])).expect("write");
        let path = root.path().join(FILE);
        let sound = std::fs::read(&path).expect("read");
        let flipped = |at: usize| sound.iter().enumerate().map(|(n, b)| if n == at { b ^ 4 } else { *b }).collect();
        let mut damaged: Vec<Vec<u8>> = (0..sound.len()).map(flipped).collect();
        damaged.extend((0..sound.len()).map(|len| sound[..len].to_vec()));
        damaged.push(vec![0; sound.len()]);
        damaged.push([b"granary-clean 2", &sound[15..]].concat());
        damaged.push([&sound[..], b"c\n"].concat());
        for bytes in damaged {
            std::fs::write(&path, &bytes).expect("write");
            let log = crate::logged::logged(|| assert_eq!(take(root.path()).expect("take"), ids(&[]), "{bytes:?}"));
            assert!(log.contains("damaged") && !path.exists());
        }
        assert_eq!(crate::logged::logged(|| assert_eq!(take(root.path()).expect("take"), ids(&[]))), "");
    }
}
