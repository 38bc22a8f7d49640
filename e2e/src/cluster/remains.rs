//! What of a cluster is still on the machine, for tests that nothing is left.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::layout::{BRIDGE, Node};
use super::{cgroups, loops, mounts};
use crate::daemon;
use crate::paths::Paths;

/// Things that `cluster down` removes. Empty when it did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Process ids.
    pub processes: Vec<u32>,
    /// Mount points.
    pub mounts: Vec<PathBuf>,
    /// Loop devices.
    pub loops: Vec<PathBuf>,
    /// Cgroups.
    pub cgroups: Vec<PathBuf>,
    /// Directories and network interfaces.
    pub files: Vec<PathBuf>,
}

impl Remains {
    pub(super) fn find(paths: &Paths, node: &Node) -> Result<Self> {
        let files = [paths.state.clone(), Path::new("/sys/class/net").join(BRIDGE)];
        Ok(Self {
            processes: daemon::strays(paths)?,
            mounts: mounts::below(&paths.state)?.into_iter().map(|mount| mount.point).collect(),
            loops: loops::of(&paths.state)?.into_iter().map(|one| one.device).collect(),
            cgroups: cgroups::existing(node)?,
            files: files.into_iter().filter(|path| path.exists()).collect(),
        })
    }
}
