//! The keeper's process: here it is a command of this program, as the node process is.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use granary_keeper::Keeper;

/// Name of the command that runs it.
const COMMAND: &str = "torture-keeper";

/// Arguments of the process.
#[derive(Debug, clap::Args)]
pub struct KeeperArguments {
    socket: PathBuf,
}

/// Keeps until it is killed: what the process does.
pub fn keep(arguments: &KeeperArguments) -> Result<()> {
    let keeper = Keeper::listen(&arguments.socket)?;
    println!("ready");
    // It ends with its standard input, so also when its parent is killed.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    Ok(keeper.run(None)?)
}

/// A running keeper; killed when dropped.
pub struct KeeperProcess(Child);

impl KeeperProcess {
    pub(super) fn start(program: &Path, socket: &Path, log: File) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(COMMAND).arg(socket).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = Self(command.spawn().context("starting the keeper")?);
        let mut line = String::new();
        let output = keeper.0.stdout.take().context("the keeper's output")?;
        BufReader::new(output).read_line(&mut line).context("hearing the keeper")?;
        ensure!(line == "ready\n", "the keeper began with {line:?}");
        Ok(keeper)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it, and what it keeps.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill().context("killing the keeper")?;
        self.0.wait().context("waiting for the keeper to end")?;
        Ok(())
    }
}

impl Drop for KeeperProcess {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
