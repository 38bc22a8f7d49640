//! What the process that serves is told, and what it answers: a line of JSON each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use granary_serve::VersionManifest;
use serde::{Deserialize, Serialize};

/// How it is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The server's own directory.
    pub state: PathBuf,
    /// Where images and extent tables lie, by their digests.
    pub artifacts: PathBuf,
    /// Where a keeper listens; without one, reads fail while no process serves.
    pub keeper: Option<PathBuf>,
    /// The caches by name.
    pub pools: BTreeMap<String, PoolSetup>,
}

/// One cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolSetup {
    /// Its directory.
    pub dir: PathBuf,
    /// Its limit.
    pub max_bytes: Option<u64>,
}

/// One call.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Mount a version.
    Publish {
        /// Id of the volume.
        volume: String,
        /// Where.
        target: PathBuf,
        /// What.
        version: Box<VersionManifest>,
    },
    /// Unmount what is at a target.
    Unpublish {
        /// Id of the volume.
        volume: String,
        /// Where.
        target: PathBuf,
    },
    /// Give a cache another limit.
    Limit {
        /// Name of the cache.
        pool: String,
        /// The limit.
        max_bytes: u64,
    },
    /// Say how each published version is mounted.
    Layouts,
    /// End in order, leaving the mounts for a successor.
    Stop,
}

/// What came of a call.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The process has started and serves. These versions were mounted and could not be gone on with: readers may have seen errors.
    Started(Vec<String>),
    /// The call succeeded.
    Done,
    /// The call failed.
    Failed(String),
    /// Names of versions, and their layouts.
    Layouts(Vec<(String, String)>),
}
