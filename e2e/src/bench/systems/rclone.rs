//! `rclone mount` with its full VFS cache and parallel chunks.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::mounted::mount_point;
use super::{Mounted, Place, Starting, System, peer_can};
use crate::bench::rows::{Row, Task};
use crate::bench::task::{Deadline, Outcome, map_file};
use crate::exec;
use crate::paths::Paths;
use crate::tools::python;

pub(super) const NAME: &str = "rclone";

pub(super) struct Rclone {
    program: PathBuf,
}

impl Rclone {
    pub(super) fn install(paths: &Paths) -> Result<Self> {
        Ok(Self { program: python::rclone(paths)? })
    }

    fn command(&self, verb: &str, place: &Place, key: &str) -> Command {
        let mut command = Command::new(&self.program);
        let endpoint = format!("http://127.0.0.1:{}", place.port);
        let remote =
            format!(":s3,provider=Other,env_auth=false,endpoint='{endpoint}':bench/{}{key}", place.dataset.prefix());
        command.args([verb, &remote]);
        command
    }
}

impl System for Rclone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn can(&self, row: &Row) -> bool {
        peer_can(row) || row.task == Task::CopyThenMap
    }

    fn mount(&self, place: &Place) -> Result<Mounted> {
        let mount = mount_point(place);
        let mut command = self.command("mount", place, "");
        command.arg(&mount).args(["--vfs-cache-mode", "full", "--vfs-cache-max-size", "20G"]);
        command.args(["--vfs-read-chunk-size", "16M", "--vfs-read-chunk-streams", "8", "--dir-cache-time", "1h"]);
        command.args(["--read-only", "--no-modtime", "--no-checksum", "--config", ""]);
        command.arg("--cache-dir").arg(place.work.join("cache"));
        Mounted::start(Starting { command, path: mount, says: None }, place)
    }

    fn does_itself(&self, row: &Row) -> bool {
        row.task == Task::CopyThenMap
    }

    /// Copies the model with eight streams and maps the copy.
    fn own_task(&self, _: &Row, place: &Place, _: Deadline) -> Result<Outcome> {
        let objects = place.dataset.objects();
        let (key, _) = objects.first().context("a model has a file")?;
        let to = place.work.join("copy").join(key);
        let mut command = self.command("copyto", place, &format!("/{key}"));
        exec::output(command.arg(&to).args(["--multi-thread-streams", "8", "--config", ""]))?;
        map_file(&to, true)
    }
}
