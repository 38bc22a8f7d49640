//! What a cluster in the state directory was made of. One of an earlier boot has no mounts and processes but stale state,
//! and one of other versions would be half old and half new, so either is removed before a start.

use anyhow::{Context, Result};

use crate::paths::{Paths, write_atomically};
use crate::tools::Tools;

/// Boot and tools of a cluster.
#[derive(Debug, PartialEq)]
pub(super) struct Stamp(String);

impl Stamp {
    pub(super) fn current(tools: &Tools) -> Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
        Ok(Self(format!("{boot}{tools:?}")))
    }

    pub(super) fn read(paths: &Paths) -> Option<Self> {
        std::fs::read_to_string(paths.state.join("stamp")).ok().map(Self)
    }

    pub(super) fn write(&self, paths: &Paths) -> Result<()> {
        write_atomically(&paths.state.join("stamp"), &self.0)
    }
}
