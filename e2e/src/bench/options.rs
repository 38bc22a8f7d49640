//! The command line of the benchmark.

use std::path::PathBuf;

use clap::Args;

use super::rows::Link;
use super::systems::SystemName;

/// What is measured, and where the figures go.
#[derive(Debug, Args)]
pub struct Options {
    /// How often each row is measured; 0 only prints what `--from` has.
    #[arg(long, default_value_t = 1)]
    pub rounds: u32,
    /// Only rows whose name has one of these in it; separated by semicolons, since names have commas.
    #[arg(long, value_delimiter = ';')]
    pub rows: Vec<String>,
    /// Only these systems.
    #[arg(long, value_delimiter = ',')]
    pub systems: Vec<SystemName>,
    /// Milliseconds that the slow link adds to a round trip; 0 leaves out its rows.
    #[arg(long, default_value_t = 20)]
    pub latency: u64,
    /// Only the rows over the slow link.
    #[arg(long)]
    pub only_slow: bool,
    /// Most megabytes a second of the slow link.
    #[arg(long, default_value_t = 125)]
    pub cap: u64,
    /// How often a disturbed measurement is repeated at most.
    #[arg(long, default_value_t = 2)]
    pub repeats: u32,
    /// Where the figures go as JSON; without it, `bench/figures.json` in the cache directory.
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
    /// Figures of an earlier run, which stay where nothing new is measured.
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
    /// Write figures and plots to the documents.
    #[arg(long)]
    pub write_docs: bool,
    /// Measure this `granary` instead of building one from the checkout.
    #[arg(long, value_name = "PROGRAM")]
    pub granary: Option<PathBuf>,
    /// Print the names of the rows.
    #[arg(long)]
    pub list: bool,
}

impl Options {
    /// The links that rows are measured over.
    pub(super) fn links(&self) -> Vec<Link> {
        match (self.only_slow, self.latency) {
            (true, _) => vec![Link::Slow],
            (false, 0) => vec![Link::Direct],
            (false, _) => vec![Link::Direct, Link::Slow],
        }
    }
}
