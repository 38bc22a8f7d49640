//! The data sets that are read, and the same files on the disk's own filesystem.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::progress;

/// Bytes of the big object and of the model.
pub(super) const BIG_BYTES: u64 = 2 << 30;
/// Bytes of a small file.
pub(super) const SMALL_BYTES: u64 = 100_000;
/// Bytes of each of the million files: they are listed, never read.
const TINY_BYTES: u64 = 1000;
/// Percent of the disk that `granary mount` leaves free: below it, nothing is cached, and every figure would be that of a cold cache.
const FLOOR_PERCENT: u64 = 10;

/// What a prefix of the bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Dataset {
    /// One object of 2 GiB.
    Big,
    /// A safetensors file of 2 GiB with 64 tensors.
    Model,
    /// 20,000 objects of 100 KB in 20 directories.
    Small,
    /// 50,000 objects of 100 KB in 50 directories.
    Many,
    /// 10,000 objects of 100 KB in 10 directories: what a training's loader reads in shuffled order.
    Images,
    /// 1,000,000 objects in 1,000 directories.
    Million,
}

impl Dataset {
    /// The prefix in the bucket `bench`, without the slash.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Big => "big",
            Self::Model => "model",
            Self::Small => "small",
            Self::Many => "many",
            Self::Images => "images",
            Self::Million => "million",
        }
    }

    /// Keys below the prefix in byte order, with their sizes.
    pub(super) fn objects(self) -> Vec<(String, u64)> {
        let small = |count: u64, size| (0..count).map(|i| (format!("d{:03}/f{i:07}.bin", i / 1000), size)).collect();
        match self {
            Self::Big => vec![("0.bin".into(), BIG_BYTES)],
            Self::Model => vec![("model.safetensors".into(), BIG_BYTES)],
            Self::Small => small(20_000, SMALL_BYTES),
            Self::Many => small(50_000, SMALL_BYTES),
            Self::Images => small(10_000, SMALL_BYTES),
            Self::Million => small(1_000_000, TINY_BYTES),
        }
    }

    /// Bytes of all objects.
    pub(super) fn bytes(self) -> u64 {
        self.objects().iter().map(|(_, size)| size).sum()
    }

    /// What the first object begins with: the header that a model loader reads first.
    pub(super) fn head(self) -> Vec<u8> {
        if self != Self::Model {
            return Vec::new();
        }
        const TENSORS: u64 = 64;
        // The header's length is part of the offsets' sum, so it is fixed first and filled with blanks, as the format allows.
        const HEADER: u64 = 8192 - 8;
        let each = (BIG_BYTES - HEADER - 8) / TENSORS / 2;
        let tensor = |i: u64| {
            let (start, end) = (i * each * 2, (i + 1) * each * 2);
            format!("\"layer.{i}.weight\":{{\"dtype\":\"F16\",\"shape\":[{each}],\"data_offsets\":[{start},{end}]}}")
        };
        let json = format!("{{{}}}", (0..TENSORS).map(tensor).collect::<Vec<_>>().join(","));
        let mut head = HEADER.to_le_bytes().to_vec();
        head.extend(json.bytes());
        head.resize(8 + HEADER as usize, b' ');
        head
    }

    /// The objects as files below `dir`.
    pub(super) fn files(self, dir: &Path) -> Vec<(PathBuf, u64)> {
        self.objects().into_iter().map(|(key, size)| (dir.join(key), size)).collect()
    }
}

/// Where the same files are on the disk.
pub(super) fn native_dir(dir: &Path, dataset: Dataset) -> PathBuf {
    dir.join("native").join(dataset.prefix())
}

/// Makes the files of `dataset` on the disk, once.
pub(super) fn make_native(dir: &Path, dataset: Dataset) -> Result<()> {
    let root = native_dir(dir, dataset);
    let mark = root.with_extension("complete");
    if mark.exists() {
        return Ok(());
    }
    let step = progress::step(format!("making the files of `{}` on the disk", dataset.prefix()), Some("10 to 60 s"));
    for (path, size) in dataset.files(&root) {
        std::fs::create_dir_all(path.parent().context("a key lies below a prefix")?)?;
        let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        if dataset == Dataset::Million {
            file.set_len(size)?;
        } else {
            std::io::copy(&mut Read::take(std::io::repeat(0x5a), size), &mut file)?;
        }
    }
    rustix::fs::sync();
    std::fs::write(mark, "")?;
    step.done();
    Ok(())
}

/// Reads the files once: a virtual disk is slower at first, and what peers cache on it was always just written.
pub(super) fn read_once(dir: &Path, dataset: Dataset) -> Result<()> {
    if dataset != Dataset::Million {
        for (path, _) in dataset.files(&native_dir(dir, dataset)) {
            std::io::copy(&mut File::open(&path)?, &mut std::io::sink())
                .with_context(|| format!("reading {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether the disk below `dir` has room for the files of `dataset` once more in a cache, and as much left as it must.
pub(super) fn has_room(dir: &Path, dataset: Dataset) -> Result<bool> {
    let disk = rustix::fs::statvfs(dir).with_context(|| format!("looking at the disk of {}", dir.display()))?;
    let copies = if native_dir(dir, dataset).with_extension("complete").exists() { 1 } else { 2 };
    let (free, floor) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize / 100 * FLOOR_PERCENT);
    Ok(free > copies * dataset.bytes() + floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_byte_order() {
        for dataset in Dataset::value_variants() {
            assert!(dataset.objects().is_sorted(), "{dataset:?}");
        }
        assert_eq!(Dataset::Million.objects().len(), 1_000_000);
    }

    #[test]
    fn the_model_has_a_header_that_describes_its_bytes() {
        let head = Dataset::Model.head();
        let length = u64::from_le_bytes(head[..8].try_into().unwrap());
        assert_eq!(length + 8, head.len() as u64);
        let header: serde_json::Value = serde_json::from_slice(&head[8..]).unwrap();
        let last = header["layer.63.weight"]["data_offsets"][1].as_u64().unwrap();
        assert!(last + length + 8 <= BIG_BYTES && last + length + 8 > BIG_BYTES - 4096);
        assert_eq!(
            header["layer.0.weight"]["shape"][0].as_u64().unwrap() * 2,
            header["layer.1.weight"]["data_offsets"][0]
        );
    }
}
