//! `cargo run -p granary-e2e -- cluster up`: a real Kubernetes on this machine, from nothing.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use granary_e2e::cluster::{Cluster, Remains};
use granary_e2e::images::GranaryImage;
use granary_e2e::paths::Paths;
use granary_e2e::s3::{READER, S3};
use granary_e2e::suite::{self, Part};
use granary_e2e::{bench, demo, fuzz, progress, tools, torture};

/// A real Kubernetes on this machine, and what Granary's end-to-end tests need besides.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install and build whatever is missing, without starting anything.
    Tools,
    /// The cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Build Granary's container image and load it into the running cluster.
    Image,
    /// Start the S3 server beside the running cluster.
    S3,
    /// Set everything up, run the main job on real data and show what happens.
    Demo {
        /// `down` stops the cluster and removes all that it made.
        #[arg(value_enum)]
        action: Option<DemoAction>,
    },
    /// Compare a mounted dataset with the disk and with peers.
    Bench(bench::Options),
    /// The benchmark's server, as a process of its own.
    #[command(hide = true)]
    BenchOrigin(bench::OriginArguments),
    /// Feed hostile input to whatever reads what others write.
    Fuzz(fuzz::Options),
    /// Read mounted datasets at random while everything around them fails.
    Torture(torture::Options),
    /// The process that serves and is killed.
    #[command(hide = true)]
    TortureNode(torture::NodeArguments),
    /// The process that keeps descriptors for it.
    #[command(hide = true)]
    TortureKeeper(torture::KeeperArguments),
    /// The process that its data comes from.
    #[command(hide = true)]
    TortureOrigin(torture::OriginArguments),
    /// Run the tests.
    Test {
        /// Only these parts.
        #[arg(value_enum)]
        parts: Vec<Part>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum DemoAction {
    Down,
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Start it; nothing happens if it runs.
    Up,
    /// Stop it and remove all that it made.
    Down,
    /// Say what runs.
    Status,
    /// Print lines for a shell to evaluate: KUBECONFIG, and a PATH with kubectl and helm.
    Env,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let paths = Paths::from_env()?;
    match command {
        Command::Tools => tools::Tools::ensure(&paths).map(drop),
        Command::Cluster(command) => cluster(command, &paths),
        Command::Demo { action: None } => demo::run(&paths),
        Command::Demo { action: Some(DemoAction::Down) } => demo::down(&paths),
        Command::Bench(options) => bench::run(&paths, &options),
        Command::BenchOrigin(arguments) => bench::serve_origin(&arguments),
        Command::Fuzz(options) => fuzz::run(&paths, &options),
        Command::Torture(options) => torture::run(&options),
        Command::TortureNode(arguments) => torture::serve(&arguments),
        Command::TortureKeeper(arguments) => torture::keep(&arguments),
        Command::TortureOrigin(arguments) => torture::serve_origin(&arguments),
        Command::Test { parts } => suite::run(&paths, &parts),
        Command::Image => {
            let cluster = Cluster::running(&paths)?;
            let image = GranaryImage::build(&paths)?;
            cluster.load_image(&image.tar)?;
            progress::note(format!("{} ({}) is in the cluster", granary_e2e::images::GRANARY, &image.digest[..12]));
            Ok(())
        }
        Command::S3 => {
            Cluster::running(&paths)?;
            let s3 = S3::start(&paths)?;
            progress::note(format!("S3 at {}, to read: {} {}", s3.endpoint(), READER.access_key, READER.secret_key));
            Ok(())
        }
    }
}

fn cluster(command: ClusterCommand, paths: &Paths) -> Result<()> {
    match command {
        ClusterCommand::Up => Cluster::up(paths).map(drop),
        ClusterCommand::Down => {
            Cluster::down(paths)?;
            let left = Cluster::remains(paths)?;
            if left != Remains::default() {
                bail!("something is left of the cluster: {left:?}");
            }
            progress::note("the cluster is stopped and removed");
            Ok(())
        }
        ClusterCommand::Status => {
            Cluster::status(paths).iter().for_each(|line| println!("{line}"));
            Ok(())
        }
        ClusterCommand::Env => {
            print!("{}", Cluster::running(paths)?.environment());
            Ok(())
        }
    }
}
