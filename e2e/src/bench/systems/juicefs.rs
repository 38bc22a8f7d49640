//! JuiceFS with SQLite for its metadata. It keeps data in a format of its own, so the data is copied into that first.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::mounted::mount_point;
use super::{Mounted, Place, Starting, System, peer_can};
use crate::bench::data;
use crate::bench::rows::Row;
use crate::paths::Paths;
use crate::tools::python;
use crate::{exec, progress};

pub(super) const NAME: &str = "juicefs";

pub(super) struct JuiceFs {
    program: PathBuf,
}

impl JuiceFs {
    pub(super) fn install(paths: &Paths) -> Result<Self> {
        Ok(Self { program: python::juicefs(paths)? })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--quiet", "--no-agent"]).env("ACCESS_KEY", "any").env("SECRET_KEY", "any");
        command
    }
}

/// The database of a data set, which outlives a run.
fn database(place: &Place) -> PathBuf {
    place.dir.join("juicefs").join(format!("{}.db", place.dataset.prefix()))
}

fn url(place: &Place) -> String {
    format!("sqlite3://{}", database(place).display())
}

fn bucket(place: &Place) -> String {
    format!("http://127.0.0.1:{}/written", place.port)
}

impl System for JuiceFs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn can(&self, row: &Row) -> bool {
        peer_can(row)
    }

    /// Formats a file system and copies the files into it, once.
    fn prepare(&self, place: &Place) -> Result<()> {
        let (path, mark) = (database(place), database(place).with_extension("complete"));
        if mark.exists() {
            return Ok(());
        }
        data::make_native(place.dir, place.dataset)?;
        let step = progress::step(format!("copying `{}` into JuiceFS", place.dataset.prefix()), Some("1 min"));
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        for left in [path.clone(), path.with_extension("db-wal"), path.with_extension("db-shm")] {
            if left.exists() {
                std::fs::remove_file(left)?;
            }
        }
        let mut format = self.command();
        format.args(["format", "--storage", "s3", "--bucket", &bucket(place), "--trash-days", "0"]);
        exec::output(format.args([&url(place), place.dataset.prefix()]))?;
        let mut sync = self.command();
        sync.args(["sync", "--threads", "20"]);
        sync.arg(format!("file://{}/", data::native_dir(place.dir, place.dataset).display()));
        exec::output(sync.arg("jfs://META/").env("META", url(place)))?;
        std::fs::write(mark, "")?;
        step.done();
        Ok(())
    }

    fn mount(&self, place: &Place) -> Result<Mounted> {
        let mount = mount_point(place);
        let mut command = self.command();
        command.args(["mount", "--read-only", "--no-usage-report", "--no-bgjob", "--backup-meta", "0", "--no-syslog"]);
        // What JuiceFS' documents recommend for data that does not change: long metadata caches, kept open files, a big buffer.
        command.args([
            "--attr-cache",
            "3600",
            "--entry-cache",
            "3600",
            "--dir-entry-cache",
            "3600",
            "--open-cache",
            "3600",
        ]);
        command.args(["--buffer-size", "1024", "--cache-size", "20480", "--metrics", "127.0.0.1:0"]);
        command.args(["--bucket", &bucket(place)]).arg("--cache-dir").arg(place.work.join("cache"));
        command.arg(url(place)).arg(&mount);
        Mounted::start(Starting { command, path: mount, says: None }, place)
    }
}
