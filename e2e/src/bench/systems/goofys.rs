//! `goofys`, which has no cache on the disk of its own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::mounted::mount_point;
use super::{Mounted, Place, Starting, System, peer_can};
use crate::bench::rows::Row;
use crate::paths::Paths;
use crate::tools::{go, recipes};

pub(super) const NAME: &str = "goofys";

pub(super) struct Goofys {
    program: PathBuf,
}

impl Goofys {
    pub(super) fn install(paths: &Paths) -> Result<Self> {
        Ok(Self { program: go::ensure_with(paths, &recipes::GOOFYS, recipes::GOOFYS_NEEDS)?.join("goofys") })
    }
}

impl System for Goofys {
    fn name(&self) -> &'static str {
        NAME
    }

    fn can(&self, row: &Row) -> bool {
        peer_can(row)
    }

    fn mount(&self, place: &Place) -> Result<Mounted> {
        let mount = mount_point(place);
        let mut command = Command::new(&self.program);
        command.args(["-f", "--endpoint", &format!("http://127.0.0.1:{}", place.port), "--region", "us-east-1"]);
        command.args(["--stat-cache-ttl", "1h", "--type-cache-ttl", "1h", "-o", "ro"]);
        command.arg(format!("bench:{}", place.dataset.prefix())).arg(&mount);
        command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
        Mounted::start(Starting { command, path: mount, says: None }, place)
    }
}
