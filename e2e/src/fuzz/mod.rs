//! `e2e/fuzz`: every reader of what others write is fed with hostile input, by the targets in `fuzz/`, for some time.
//!
//! The targets are built by `cargo fuzz` without a sanitizer, which a stable compiler can: what they run is safe Rust, so that what
//! there is to find are panics, overflows, endless loops, unbounded memory and answers that are wrong.

mod build;
mod target;

use std::num::NonZero;
use std::sync::Mutex;
use std::thread::{available_parallelism, scope};

use anyhow::{Context, Result, bail, ensure};

use self::build::Fuzzers;
use self::target::Findings;
use crate::paths::Paths;

/// How long a target runs when nobody says how long.
const SECONDS: u32 = 10;

/// What to run, and for how long.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long each target runs. What it has learned stays in the cache, and is where the next run begins.
    #[arg(long, default_value_t = SECONDS)]
    pub seconds: u32,
    /// Only these targets.
    pub targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: SECONDS, targets: Vec::new() }
    }
}

/// Builds the targets.
pub fn build(paths: &Paths) -> Result<()> {
    Fuzzers::build(paths).map(drop)
}

/// Builds the targets and runs them, as many at once as there are processors.
pub fn run(paths: &Paths, options: &Options) -> Result<()> {
    let fuzzers = Fuzzers::build(paths)?;
    if let Some(unknown) = options.targets.iter().find(|wanted| !fuzzers.targets.contains(wanted)) {
        bail!("'{unknown}' is none of the targets: {}", fuzzers.targets.join(", "));
    }
    let wanted = if options.targets.is_empty() { &fuzzers.targets } else { &options.targets };
    let (queue, failures) = (Mutex::new(wanted.iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().ok()?.next();
    scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    match target::run(paths, &fuzzers, target, options.seconds) {
                        Ok(findings) => println!("{}", line(target, &findings)),
                        Err(error) => {
                            println!("{target}: FAILED\n{error:#}");
                            failures.lock().expect("no thread panics with it").push(target.clone());
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().context("a thread that ran a target panicked")?;
    println!("fuzz: {} passed, {} failed, {} s each", wanted.len() - failures.len(), failures.len(), options.seconds);
    ensure!(failures.is_empty(), "hostile input broke something: {}", failures.join(", "));
    Ok(())
}

fn line(target: &str, findings: &Findings) -> String {
    let Findings { inputs, edges, seeds, kept } = findings;
    format!("{target}: {inputs} inputs, {edges} edges covered, {seeds} seeds, {kept} inputs worth keeping")
}
