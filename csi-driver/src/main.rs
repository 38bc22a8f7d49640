//! `granary-csi`: one binary for nodes, their keepers, and index Jobs.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use clap::Parser;
use granary_csi_driver::options::{Command, LogFormat, Options};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = log(&options) {
        eprintln!("--log-level: {error}");
        return ExitCode::FAILURE;
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    // One TLS provider for everything, chosen here and nowhere else.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("a TLS provider is installed already");
    }
    match options.command {
        // Without threads, which it does not need.
        Command::Keeper(keeper) => granary_csi_driver::keeper::run(&keeper),
        Command::Node(node) => block_on(granary_csi_driver::run::node(node)),
        Command::Index(index) => block_on(granary_csi_driver::index_job::run(&index)),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn log(options: &Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log_level)?;
    let logger =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal());
    match options.log_format {
        LogFormat::Json => logger.json().flatten_event(true).init(),
        LogFormat::Text => logger.init(),
    }
    Ok(())
}
