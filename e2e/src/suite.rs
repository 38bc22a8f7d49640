//! `e2e/test`: every test, in the order of what they need.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;

use crate::cluster::Cluster;
use crate::paths::{Paths, checkout};
use crate::s3::S3;
use crate::tools::apt;
use crate::{fuzz, images, install, progress, supply};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 5;

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What needs neither root nor a cluster: `cargo test --workspace`, and the formatting.
    Unit,
    /// Licences, origins and known vulnerabilities of the dependencies.
    Supply,
    /// Real mounts, loop devices and small filesystems on this machine; beside them, lints.
    Root,
    /// Hostile input for every reader of what others write, for some seconds each.
    Fuzz,
    /// The real cluster.
    Cluster,
}

/// Runs `parts`, or all of them when there are none.
pub fn run(paths: &Paths, parts: &[Part]) -> Result<()> {
    let begun = Instant::now();
    let all = [Part::Unit, Part::Supply, Part::Root, Part::Fuzz, Part::Cluster];
    let parts = if parts.is_empty() { &all[..] } else { parts };
    for part in parts {
        println!("\n== {part:?} tests");
        match part {
            Part::Unit => unit()?,
            Part::Supply => supply::run(paths)?,
            Part::Root => beside(|| build_for(paths, parts), root)?,
            Part::Fuzz => fuzz::run(paths, &fuzz::Options { seconds: FUZZ_SECONDS, ..Default::default() })?,
            Part::Cluster => cluster(paths)?,
        }
    }
    println!("\ntest: ok ({})", progress::human(begun.elapsed()));
    Ok(())
}

/// The tests that need root wait for most of their time: beside them lints are checked, and built is what other parts need.
fn build_for(paths: &Paths, parts: &[Part]) -> Result<()> {
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])?;
    if parts.contains(&Part::Cluster) {
        images::GranaryImage::build(paths)?;
    }
    if parts.contains(&Part::Fuzz) {
        fuzz::build(paths)?;
    }
    Ok(())
}

/// Runs both at once.
fn beside(one: impl FnOnce() -> Result<()> + Send, other: impl FnOnce() -> Result<()>) -> Result<()> {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        // Said at once: the first may take long to end.
        other().inspect_err(|error| println!("FAILED: {error:#}"))?;
        one.join().map_err(|_| anyhow!("building what further tests need has panicked"))?
    })
}

fn unit() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["test", "--workspace", "--locked"])?;
    // Apart: with this feature, the crate's locks, atomics and tasks work only below its scheduler.
    cargo(&["test", "--locked", "--package", "granary-blob", "--features", "shuttle", "--lib", "interleavings"])
}

fn root() -> Result<()> {
    apt::ensure(apt::TESTS)?;
    cargo(&["test", "--workspace", "--locked", "--exclude", "granary-e2e", "--", "--ignored", "--test-threads=1"])?;
    let tests = ["test", "--locked", "--package", "granary-e2e", "--test", "root"];
    cargo(&[&tests[..], &["--", "--ignored", "--test-threads=1"]].concat())
}

fn cluster(paths: &Paths) -> Result<()> {
    let was_running = Cluster::running(paths).is_ok();
    let result = cluster_tests(paths);
    if !was_running && result.is_ok() {
        Cluster::down(paths)?;
    }
    result
}

fn cluster_tests(paths: &Paths) -> Result<()> {
    let cluster = Cluster::up(paths)?;
    S3::start(paths)?;
    install::install(&cluster)?;
    cluster.load_image(&images::probe(paths)?.1)?;
    let tests = ["test", "--locked", "--package", "granary-e2e"];
    cargo(&[&tests[..], &["--", "--ignored", "--skip", "alone::", "--skip", "root::", "--test-threads=4"]].concat())?;
    // These restart or remove the node process, or count mounts.
    cargo(&[&tests[..], &["--test", "cluster", "--", "--ignored", "alone::", "--test-threads=1"]].concat())
}

/// Runs cargo in the checkout, its output going where ours goes.
fn cargo(arguments: &[&str]) -> Result<()> {
    println!("$ cargo {}", arguments.join(" "));
    let mut command = Command::new("cargo");
    crate::exec::outside_of_cargo(&mut command);
    let status = command.args(arguments).current_dir(checkout()).status().context("running cargo")?;
    ensure!(status.success(), "`cargo {}` failed ({status})", arguments.join(" "));
    Ok(())
}
