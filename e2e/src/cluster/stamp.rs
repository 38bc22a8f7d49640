//! What a cluster in the state directory was made of. One of an earlier boot has no mounts and processes but stale state,
//! and one of other versions would be half old and half new, so either is removed before a start.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::layout::Node;
use super::pki::Pki;
use super::{addons, config, daemons};
use crate::paths::{Paths, write_atomically};
use crate::tools::Tools;

/// Boot of the machine, and all command lines and configurations, which name tools by version and flags.
#[derive(Debug, PartialEq)]
pub(super) struct Stamp(String);

impl Stamp {
    pub(super) fn current(paths: &Paths, tools: &Tools, pki: &Pki, node: &Node) -> Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
        let processes = daemons::all(paths, tools, pki, node);
        let files = config::files(node, tools, pki)?;
        let digest = Sha256::digest(format!("{processes:?}{files:?}{tools:?}{}", addons::manifest()));
        Ok(Self(format!("{boot}{}\n", hex::encode(digest))))
    }

    pub(super) fn read(paths: &Paths) -> Option<Self> {
        std::fs::read_to_string(paths.state.join("stamp")).ok().map(Self)
    }

    pub(super) fn write(&self, paths: &Paths) -> Result<()> {
        write_atomically(&paths.state.join("stamp"), &self.0)
    }

    pub(super) fn remove(paths: &Paths) -> Result<()> {
        match std::fs::remove_file(paths.state.join("stamp")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing the stamp"),
            _ => Ok(()),
        }
    }
}
