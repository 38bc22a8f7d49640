//! See the library.

use std::process::ExitCode;

use clap::Parser;
use granary_operator::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    granary_operator::main(Cli::parse()).await
}
