//! A filesystem that gets full.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// One small filesystem, with a file in it that takes the room.
pub(super) struct TinyDisk {
    dir: PathBuf,
    ballast: PathBuf,
}

impl TinyDisk {
    /// What is mounted at `dir`.
    pub(super) fn new(dir: PathBuf) -> Self {
        let ballast = dir.join("ballast");
        Self { dir, ballast }
    }

    /// Takes so much of what is free, in percent; with 100, until nothing more fits.
    pub(super) fn fill(&self, percent: u64) -> Result<()> {
        let space = rustix::fs::statvfs(&self.dir).context("asking for the free space")?;
        let wanted = space.f_bavail * space.f_frsize * percent / 100;
        let mut file = File::options().append(true).create(true).open(&self.ballast).context("filling the disk")?;
        let chunk = vec![1; 4096];
        for _ in 0..wanted.div_ceil(chunk.len() as u64) {
            // Others fill it, too.
            if file.write_all(&chunk).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Gives back all that was taken.
    pub(super) fn free(&self) -> Result<()> {
        match std::fs::remove_file(&self.ballast) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("emptying the disk"),
            _ => Ok(()),
        }
    }
}
