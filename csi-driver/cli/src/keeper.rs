//! The keeper beside a mounting process: this program, run again. It holds what the next run on the same cache needs, if this
//! one is killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use granary_keeper::{Client, Keeper};

use crate::args::KeeperArgs;

/// How long it holds what nobody serves. Readers wait for so long, and get errors then.
const LINGER: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);
/// What it says when it listens.
const READY: &str = "keeping";

/// Keeps until nobody needs it.
pub fn run(args: &KeeperArgs) -> anyhow::Result<()> {
    let keeper = Keeper::listen(&args.socket)?;
    writeln!(std::io::stdout(), "{READY}").context("cannot say that it listens")?;
    Ok(keeper.run(Some(LINGER))?)
}

/// Where the keeper of a cache listens.
pub fn socket(cache: &Path) -> PathBuf {
    cache.join("keeper.sock")
}

/// A keeper that this process has started; it ends with it, unless this process is killed.
pub struct Beside(Option<Child>);

impl Beside {
    /// Starts a keeper, unless one that an earlier run has left is there.
    pub fn start(socket: &Path) -> anyhow::Result<Self> {
        if Client::connect(socket, PATIENCE).is_ok() {
            return Ok(Self(None));
        }
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("keeper").arg(socket).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // What the terminal sends is not for it.
        let mut child = command.process_group(0).spawn().context("cannot start a keeper")?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).context("cannot hear the keeper")?;
        }
        let beside = Self(Some(child));
        if line.trim_end() != READY {
            bail!("the keeper does not start: is the path of '{}' longer than 100 characters?", socket.display());
        }
        Ok(beside)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
