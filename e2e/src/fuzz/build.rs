//! The targets' programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::{Paths, checkout};
use crate::tools::{apt, python};
use crate::{exec, progress};

/// Built targets.
pub(super) struct Fuzzers {
    /// Where their programs lie.
    pub(super) programs: PathBuf,
    /// Their names.
    pub(super) targets: Vec<String>,
}

impl Fuzzers {
    /// Builds all of them; nothing happens if they are there.
    pub(super) fn build(paths: &Paths) -> Result<Self> {
        apt::ensure(apt::FUZZ)?;
        let cargo_fuzz = python::cargo_fuzz(paths)?;
        let fuzz = checkout().join("fuzz");
        same_versions(&checkout().join("Cargo.lock"), &fuzz.join("Cargo.lock"))?;
        let host = host()?;
        let target_dir = target_dir(paths);
        let said = exec::output(&mut command(&cargo_fuzz, "list", &fuzz))?;
        let targets = said.lines().map(str::to_owned).collect();
        let step = progress::step("building the fuzz targets", Some("20 s, 5 min with all dependencies"));
        let mut build = command(&cargo_fuzz, "build", &fuzz);
        build.args(["--sanitizer", "none", "--target", &host, "--target-dir"]).arg(&target_dir);
        exec::logged(&mut build, &paths.cache.join("log/build-fuzz.log"))?;
        step.done();
        Ok(Self { programs: target_dir.join(host).join("release"), targets })
    }
}

fn command(cargo_fuzz: &Path, what: &str, fuzz: &Path) -> Command {
    let mut command = Command::new(cargo_fuzz);
    exec::outside_of_cargo(&mut command);
    command.args(["fuzz", what, "--fuzz-dir"]).arg(fuzz).current_dir(checkout());
    command
}

/// Beside what cargo builds for everything else, which has other flags.
fn target_dir(paths: &Paths) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| paths.cache.join("target"), PathBuf::from).join("fuzz")
}

/// The dependencies that are fuzzed are those of the product. Cargo adds to the copy what only the fuzzer needs.
fn same_versions(lock: &Path, copy: &Path) -> Result<()> {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let original = modified(lock).with_context(|| format!("reading {}", lock.display()))?;
    if modified(copy).is_ok_and(|copied| copied > original) {
        return Ok(());
    }
    fs::copy(lock, copy).map(drop).with_context(|| format!("writing {}", copy.display()))
}

fn host() -> Result<String> {
    let said = exec::output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it compiles for")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_lock_file_that_changed_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, copy) = (dir.path().join("Cargo.lock"), dir.path().join("copy"));
        fs::write(&lock, "1").unwrap();
        let at = |path: &Path, time| fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        let now = SystemTime::now();
        at(&lock, now - Duration::from_secs(60));
        same_versions(&lock, &copy).unwrap();
        fs::write(&copy, "1, and the fuzzer's").unwrap();
        at(&copy, now);
        same_versions(&lock, &copy).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), "1, and the fuzzer's");
        at(&lock, now + Duration::from_secs(60));
        same_versions(&lock, &copy).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), "1");
    }
}
