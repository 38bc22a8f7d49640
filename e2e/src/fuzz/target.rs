//! One target's run.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::build::Fuzzers;
use crate::exec;
use crate::paths::{Paths, checkout};

/// An input that takes longer is a failure.
const SECONDS_PER_INPUT: u32 = 10;
/// Inputs are a few KiB, so what takes more was led to it by one.
const MEMORY_MIB: u32 = 1024;

/// What a run found out, as libFuzzer tells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// Inputs that were tried.
    pub(super) inputs: u64,
    /// Edges of the program's flow that were reached.
    pub(super) edges: u64,
    /// Inputs that are part of the repository.
    pub(super) seeds: usize,
    /// Inputs that reach something that no other does, seeds among them.
    pub(super) kept: u64,
}

/// Runs a target; an input that breaks it is an error that shows it.
pub(super) fn run(paths: &Paths, fuzzers: &Fuzzers, target: &str, seconds: u32) -> Result<Findings> {
    let seeds = checkout().join("fuzz/corpus").join(target);
    let own = paths.cache.join("fuzz");
    let (corpus, artifacts) = (own.join("corpus").join(target), own.join("artifacts").join(target));
    for dir in [&corpus, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let scratch = scratch()?;
    let mut command = Command::new(fuzzers.programs.join(target));
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SECONDS_PER_INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .args([&corpus, &seeds])
        .env("TMPDIR", scratch.path());
    let log = own.join("log").join(format!("{target}.log"));
    exec::logged(&mut command, &log).with_context(|| {
        format!(
            "once it is mended, the input belongs into a test; `cargo fuzz run -s none {target} <file>` tries it again"
        )
    })?;
    let said = fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
    let count =
        fs::read_dir(&seeds).with_context(|| format!("'{target}' has no seeds in {}", seeds.display()))?.count();
    findings(&said, count).with_context(|| format!("{} does not say what was done", log.display()))
}

/// In memory where there is such a place: some targets write files for each input.
fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.context("making a temporary directory")
}

/// From lines such as `#2048 NEW cov: 53 ft: 60 corp: 4/16b ...` and `stat::number_of_executed_units: 4096`.
fn findings(log: &str, seeds: usize) -> Option<Findings> {
    let last = log.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: "))?;
    let after = |name: &str| last.split_once(name)?.1.split([' ', '/']).next()?.parse().ok();
    let inputs =
        log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?.trim().parse().ok()?;
    Some(Findings { inputs, edges: after(" cov: ")?, seeds, kept: after(" corp: ")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libfuzzer_says() {
        let log = "INFO: Seed: 1\n#5\tINITED cov: 40 ft: 41 corp: 4/16b exec/s: 0 rss: 30Mb\n\
            #9012\tDONE   cov: 53 ft: 60 corp: 7/30b lim: 4096 exec/s: 300 rss: 33Mb\nDone 9012 runs in 3 second(s)\n\
            stat::number_of_executed_units: 9012\nstat::peak_rss_mb:              33\n";
        assert_eq!(findings(log, 4), Some(Findings { inputs: 9012, edges: 53, seeds: 4, kept: 7 }));
        assert_eq!(findings("INFO: Seed: 1\n", 4), None);
    }
}
