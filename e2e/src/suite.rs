//! `e2e/test`: every test, in the order of what they need.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::cluster::Cluster;
use crate::paths::{Paths, checkout};
use crate::s3::S3;
use crate::tools::apt;
use crate::{fuzz, images, install, progress, supply};

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What needs neither root nor a cluster: `cargo test --workspace`, and the formatting.
    Unit,
    /// Licences, origins and known vulnerabilities of the dependencies.
    Supply,
    /// Hostile input for every reader of what others write, for some seconds each.
    Fuzz,
    /// Real mounts, loop devices and small filesystems on this machine.
    Root,
    /// The real cluster.
    Cluster,
}

/// Runs `parts`, or all of them when there are none.
pub fn run(paths: &Paths, parts: &[Part]) -> Result<()> {
    let begun = Instant::now();
    let all = [Part::Unit, Part::Supply, Part::Fuzz, Part::Root, Part::Cluster];
    let parts = if parts.is_empty() { &all[..] } else { parts };
    for part in parts {
        println!("\n== {part:?} tests");
        match part {
            Part::Unit => unit()?,
            Part::Supply => supply::run(paths)?,
            Part::Fuzz => fuzz::run(paths, &fuzz::Options::default())?,
            Part::Root => root()?,
            Part::Cluster => cluster(paths)?,
        }
    }
    println!("\ntest: ok ({})", progress::human(begun.elapsed()));
    Ok(())
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
