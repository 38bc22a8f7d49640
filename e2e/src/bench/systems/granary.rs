//! This project's own `granary mount`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::mounted::{loops, mount_point};
use super::{Mounted, Place, Starting, System};
use crate::bench::rows::{Row, Task};
use crate::images::GranaryImage;
use crate::paths::Paths;

pub(super) const NAME: &str = "granary";
/// Name of the file that a blob's bytes are cached in.
const CACHE_FILE: &str = "data";
/// The layout while parts are missing.
const THROUGH_FUSE: &str = "EROFSLoopFUSE";
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Granary {
    program: PathBuf,
}

impl Granary {
    pub(super) fn install(paths: &Paths, given: Option<&Path>) -> Result<Self> {
        let program = match given {
            Some(program) => program.to_owned(),
            None => GranaryImage::build(paths)?.program("granary"),
        };
        Ok(Self { program })
    }
}

impl System for Granary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn can(&self, row: &Row) -> bool {
        row.task != Task::CopyThenMap
    }

    fn adopts(&self) -> bool {
        true
    }

    fn mount(&self, place: &Place) -> Result<Mounted> {
        let mount = mount_point(place);
        let mut command = Command::new(&self.program);
        command.arg("mount").arg(format!("s3://bench/{}/", place.dataset.prefix())).arg(&mount);
        command.args(["--no-sign-request", "--region", "us-east-1"]);
        command.args(["--endpoint", &format!("http://127.0.0.1:{}", place.port)]);
        command.arg("--cache").arg(place.work.join("cache"));
        command.args(place.known.then_some("--last"));
        Mounted::start(Starting { command, path: mount, says: Some("mounted ") }, place)
    }

    fn settle(&self, place: &Place) -> Result<()> {
        let begun = Instant::now();
        while self.layout(place) == Some(THROUGH_FUSE) {
            if begun.elapsed() > SETTLE_LIMIT {
                bail!("the mount is still served through FUSE {} s after it was read whole", SETTLE_LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Told from the loop devices over files of this run: none, one over the cache's file, or only the image's. The FUSE file that
    /// serves what is missing lies on a mount that has no place in the tree.
    fn layout(&self, place: &Place) -> Option<&'static str> {
        let files = loops().into_iter().map(|(_, file)| file);
        let ours: Vec<PathBuf> = files.filter(|file| file.starts_with(place.work)).collect();
        let over_cache = ours.iter().any(|file| file.file_name().is_some_and(|name| name == CACHE_FILE));
        Some(match (ours.is_empty(), over_cache) {
            (true, _) => "EROFSFile",
            (false, true) => "EROFSLoopNative",
            (false, false) => THROUGH_FUSE,
        })
    }
}
