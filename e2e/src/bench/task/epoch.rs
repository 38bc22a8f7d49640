//! An epoch of a training's loader: `loader.py`, run by Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Outcome;
use crate::exec;

const SCRIPT: &str = include_str!("loader.py");

/// An epoch computes for 4 s.
const LIMIT_SECONDS: &str = "120";

/// The loader's script on the disk.
#[derive(Debug)]
pub(in super::super) struct Loader {
    script: PathBuf,
}

/// What the script prints.
#[derive(Debug, Deserialize)]
struct Said {
    files: u64,
    bytes: u64,
    /// Seconds that the accelerator computed.
    compute: f64,
    /// Seconds of the epoch.
    wall: f64,
}

impl Loader {
    /// Writes the script to `dir`.
    pub(in super::super) fn make(dir: &Path) -> Result<Self> {
        let script = dir.join("loader.py");
        crate::paths::write_atomically(&script, SCRIPT)?;
        Ok(Self { script })
    }

    /// Runs epoch `number` on the files below `dir`.
    pub(super) fn epoch(&self, dir: &Path, number: u32) -> Result<Outcome> {
        // A loader whose workers wait for a mount that does not answer would wait for ever.
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", LIMIT_SECONDS, "python3"]);
        let said = exec::output(command.arg(&self.script).arg(dir).arg(number.to_string()))?;
        let said: Said = serde_json::from_str(&said).context("reading what the loader printed")?;
        ensure!(said.files > 0, "the loader found no files in {}", dir.display());
        let percent = 100.0 * said.compute / said.wall;
        Ok(Outcome { bytes: said.bytes, count: said.files, percent, seconds: Some(said.wall) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_reads_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data/d0");
        std::fs::create_dir_all(&data).unwrap();
        (0..120).for_each(|i| std::fs::write(data.join(i.to_string()), [0; 100]).unwrap());
        let done = Loader::make(dir.path()).unwrap().epoch(&dir.path().join("data"), 1).unwrap();
        assert_eq!((done.count, done.bytes), (120, 12_000));
        assert!(done.percent > 0.0 && done.percent <= 100.0, "{done:?}");
    }
}
