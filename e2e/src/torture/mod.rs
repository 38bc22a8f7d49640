//! Random operations on mounted datasets, compared with a model of what every path and byte must be, while the node process is
//! killed, its caches are squeezed and its source fails; and what is left behind by processes that were killed.

pub mod check;
mod child;
pub mod count;
mod disk;
pub mod keeper;
pub mod lab;
pub mod model;
pub mod node;
mod operation;
pub mod origin;
mod origin_process;
mod plan;
mod progress;
mod reader;
pub mod round;
mod steps;
mod ways;
mod window;
mod wire;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

pub use child::{NodeArguments, serve};
pub use keeper::{KeeperArguments, keep};
pub use origin_process::{OriginArguments, serve as serve_origin};
pub use wire::Setup;

use crate::progress::human;
use round::{Size, Summary};

/// How long, and with which seed.
#[derive(Debug, Args)]
pub struct Options {
    /// Goes on for so many minutes, a run of one seed after the other; with 0, there is one run.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// Seed of the first run; each further one has the next. Without it, a fresh one.
    #[arg(long)]
    seed: Option<u64>,
    /// Operations of a run.
    #[arg(long, default_value_t = 6000)]
    operations: u64,
    /// Threads that read.
    #[arg(long, default_value_t = 8)]
    readers: u64,
    /// Without a keeper: readers see errors while no node process serves.
    #[arg(long)]
    without_keeper: bool,
}

/// Runs seeds until the time is over or something is wrong.
pub fn run(options: &Options) -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    let (begun, lasting) = (Instant::now(), Duration::from_secs(60 * options.minutes));
    // Short enough to be typed again.
    let first = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let size = Size { operations: options.operations, readers: options.readers };
    for seed in first.. {
        let started = Instant::now();
        let summary =
            round::run(&program, seed, size, !options.without_keeper).with_context(|| again(seed, options))?;
        println!("seed {seed}: {} ({})", words(&summary), human(started.elapsed()));
        if begun.elapsed() >= lasting {
            break;
        }
    }
    println!("torture: ok ({})", human(begun.elapsed()));
    Ok(())
}

/// How a run that failed is run again.
fn again(seed: u64, options: &Options) -> String {
    let without = if options.without_keeper { " --without-keeper" } else { "" };
    let Options { operations, readers, .. } = options;
    format!(
        "seed {seed} failed; again: e2e/torture --seed {seed} --operations {operations} --readers {readers}{without}"
    )
}

/// What a run has seen, in words.
fn words(summary: &Summary) -> String {
    format!(
        "{} operations, {} MiB compared, {} kills, {} errors that were to be expected, longest operation {}",
        summary.operations,
        summary.bytes >> 20,
        summary.kills,
        summary.excused,
        human(summary.longest)
    )
}
