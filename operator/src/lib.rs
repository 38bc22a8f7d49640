//! The operator: reconciles Datasets, their versions and claims, classes and grants, and serves images to nodes.

pub mod cli;
pub mod conditions;
pub mod events;
#[cfg(test)]
mod faults;
pub mod health;
pub mod lease;
mod log;
pub mod metrics;
pub mod names;
mod preflight;
pub mod reconcile;
mod run;
mod startup;
pub mod store;
#[cfg(test)]
mod testing;
pub mod world;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Does what the command line says.
pub async fn main(cli: Cli) -> ExitCode {
    let common = match &cli.command {
        Command::Run(args) => &args.common,
        Command::PreflightUninstall(common) => common,
    };
    log::start(common);
    let done = match &cli.command {
        Command::Run(args) => run::run(args).await,
        Command::PreflightUninstall(common) => preflight::run(common).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
