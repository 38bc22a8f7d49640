//! The process that serves, as its parent has it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::child::COMMAND;
use super::keeper::KeeperProcess;
use super::lab::{Lab, Version};
use super::steps::Steps;
use super::wire::{Answer, Order, PoolSetup, Setup};
use crate::memory_group::Group;

/// How a process is started, again and again.
pub struct Starting {
    /// The program that has the command [`COMMAND`].
    pub program: PathBuf,
    /// What it is told.
    pub setup: Setup,
    /// Where its log goes.
    pub log: PathBuf,
    /// The cgroup that it runs in.
    pub group: Option<Group>,
    /// Whether its steps are counted, so that it can be killed before any of them.
    pub stepwise: bool,
    /// Keeps what its successor needs.
    pub keeper: Option<KeeperProcess>,
}

/// What became of a call.
#[derive(Debug)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It was refused or failed.
    Failed(String),
    /// The process ended before it answered.
    Killed,
}

/// A running process; killed when dropped.
pub struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    steps: Option<Steps>,
    keeper: Option<u32>,
    interrupted: Vec<String>,
}

impl Starting {
    /// State and caches below the directory of `lab`; the caches by name and limit.
    pub fn new(program: &Path, lab: &Lab, pools: &[(&str, Option<u64>)]) -> Self {
        let pools = pools.iter().map(|(name, max_bytes)| {
            ((*name).to_owned(), PoolSetup { dir: lab.dir().join(format!("cache-{name}")), max_bytes: *max_bytes })
        });
        let (state, artifacts) = (lab.dir().join("state"), lab.artifacts.clone());
        let setup = Setup { state, artifacts, keeper: None, pools: pools.collect() };
        let log = lab.dir().join("node.log");
        Self { program: program.to_owned(), setup, log, group: None, stepwise: false, keeper: None }
    }

    /// Starts a keeper, whose socket is below the directory of `lab`. A predecessor is killed.
    pub fn keep(&mut self, lab: &Lab) -> Result<()> {
        let socket = lab.dir().join("keeper.sock");
        self.keeper = None;
        self.keeper = Some(KeeperProcess::start(&self.program, &socket, self.log_file()?)?);
        self.setup.keeper = Some(socket);
        Ok(())
    }

    /// Starts the process and waits until it serves.
    pub fn start(&self) -> Result<Node> {
        match self.start_until(None)? {
            Some(node) => Ok(node),
            None => bail!("the node process ended early: {}", self.last_words()),
        }
    }

    /// As [`Self::start`], but the process is killed before its step of this number. `None` if it got so far.
    pub fn start_until(&self, step: Option<u64>) -> Result<Option<Node>> {
        let mut command = Command::new(&self.program);
        command.arg(COMMAND).arg(serde_json::to_string(&self.setup)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(self.log_file()?);
        command.env("RUST_LOG", "info").env("RUST_BACKTRACE", "1");
        if let Some(group) = &self.group {
            group.enter(&mut command)?;
        }
        let steps = if self.stepwise { Some(Steps::prepare(&mut command)?) } else { None };
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let steps = steps.map(|steps| steps.watch(child.id(), step)).transpose()?;
        let (input, output) = (child.stdin.take().context("its input")?, child.stdout.take().context("its output")?);
        let keeper = self.keeper.as_ref().map(KeeperProcess::pid);
        let mut node = Node { child, input, output: BufReader::new(output), steps, keeper, interrupted: Vec::new() };
        match node.answer()? {
            Some(Answer::Started(interrupted)) => {
                node.interrupted = interrupted;
                Ok(Some(node))
            }
            Some(other) => bail!("the node process began with {other:?}"),
            None => {
                node.kill()?;
                Ok(None)
            }
        }
    }

    fn log_file(&self) -> Result<File> {
        File::options().append(true).create(true).open(&self.log).context("opening the log")
    }

    /// The end of the log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Fails if a process has panicked.
    pub fn check_log(&self) -> Result<()> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        match log.lines().position(|line| line.contains("panicked at")) {
            None => Ok(()),
            Some(at) => {
                bail!("a node process panicked: {}", log.lines().skip(at).take(8).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

impl Node {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its keeper's process.
    pub fn keeper(&self) -> Option<u32> {
        self.keeper
    }

    /// Names of versions that it could not go on with, so that their readers may have seen errors.
    pub fn interrupted(&self) -> &[String] {
        &self.interrupted
    }

    /// Has it killed before the step of this number, counted from now; without one, never. Gives whether it was killed so before.
    pub fn kill_before(&self, step: Option<u64>) -> bool {
        self.steps.as_ref().is_some_and(|steps| steps.arm(step))
    }

    /// Mounts a version.
    pub fn publish(&mut self, volume: &str, target: &Path, version: &Version) -> Result<Outcome> {
        let version = Box::new(version.manifest.clone());
        self.call(&Order::Publish { volume: volume.to_owned(), target: target.to_owned(), version })
    }

    /// Unmounts what is at a target.
    pub fn unpublish(&mut self, volume: &str, target: &Path) -> Result<Outcome> {
        self.call(&Order::Unpublish { volume: volume.to_owned(), target: target.to_owned() })
    }

    /// Gives a cache another limit.
    pub fn limit(&mut self, pool: &str, max_bytes: u64) -> Result<Outcome> {
        self.call(&Order::Limit { pool: pool.to_owned(), max_bytes })
    }

    /// Names of published versions and how each is mounted.
    pub fn layouts(&mut self) -> Result<Vec<(String, String)>> {
        self.send(&Order::Layouts)?;
        match self.answer()? {
            Some(Answer::Layouts(layouts)) => Ok(layouts),
            other => bail!("asked for its layouts, the node process said {other:?}"),
        }
    }

    /// Ends it in order, its mounts staying.
    pub fn stop(&mut self) -> Result<()> {
        match self.call(&Order::Stop)? {
            Outcome::Done => {}
            other => bail!("an orderly end: {other:?}"),
        }
        self.child.wait().context("waiting for the node process to end")?;
        Ok(())
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing the node process")?;
        self.child.wait().context("waiting for the node process to end")?;
        Ok(())
    }

    fn call(&mut self, order: &Order) -> Result<Outcome> {
        if self.send(order).is_err() {
            return Ok(Outcome::Killed);
        }
        match self.answer()? {
            Some(Answer::Done) => Ok(Outcome::Done),
            Some(Answer::Failed(message)) => Ok(Outcome::Failed(message)),
            Some(other) => bail!("to {order:?} the node process said {other:?}"),
            None => Ok(Outcome::Killed),
        }
    }

    fn send(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.input.write_all(&line).context("telling the node process")
    }

    fn answer(&mut self) -> Result<Option<Answer>> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Ok(None),
            // A line that was not finished is none.
            Ok(_) if !line.ends_with('\n') => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line).with_context(|| format!("the node process said {line}"))?)),
            Err(error) => Err(error).context("hearing the node process"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Takes everything but success for an error.
    pub fn done(self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Failed(message) => bail!("the node process failed: {message}"),
            Self::Killed => bail!("the node process ended without an answer"),
        }
    }
}
