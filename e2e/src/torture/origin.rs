//! The source of all datasets: a process of its own that can be told to fail. In the process that reads, a thread of the source
//! could wait for memory that a page fault holds which waits for the source.

use std::fs;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::model::{File, Model};

/// Name of the command that runs the process.
const COMMAND: &str = "torture-origin";

/// What a request can get instead of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// An answer that says to come again: this status.
    Status(u16),
    /// Half of the answer, then the connection ends.
    Reset,
    /// The answer, slowly.
    Slow,
    /// The answer, after a while without anything.
    Stall,
    /// The object is not there any more.
    Gone,
    /// The object is another one by now.
    Changed,
}

/// What is wrong with the objects of a dataset from now on. The process says its address once, and then what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Trouble {
    /// The next so many requests meet a fault.
    Passing(String, Fault, u32),
    /// All requests meet a fault.
    Lasting(String, Fault),
    /// Nothing.
    None(String),
}

/// The running source; it ends when this is dropped.
pub struct Origin {
    child: Child,
    words: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    address: String,
    objects: PathBuf,
}

/// Key of an object.
pub fn key(file: &File) -> String {
    format!("o{}", file.object)
}

/// Entity tag of an object.
pub fn etag(dataset: &str, file: &File) -> String {
    etag_of(dataset, &key(file), file.bytes.len() as u64)
}

/// The same by its key and its length.
pub(super) fn etag_of(dataset: &str, key: &str, len: u64) -> String {
    format!("\"{dataset}-{key}-{len}\"")
}

impl Origin {
    /// Starts one on a free port, which has its objects below a directory that is made.
    pub fn start(program: &Path, objects: PathBuf) -> Result<Self> {
        fs::create_dir(&objects).context("making a directory for objects")?;
        let mut command = Command::new(program);
        command.arg(COMMAND).arg(&objects).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the source")?;
        let (input, output) = (child.stdin.take().context("its input")?, child.stdout.take().context("its output")?);
        let mut words = (input, BufReader::new(output));
        let address = hear(&mut words.1)?;
        Ok(Self { child, words: Mutex::new(words), address, objects })
    }

    /// URI of a dataset.
    pub fn uri(&self, dataset: &str) -> String {
        format!("http://{}/{dataset}/", self.address)
    }

    /// Serves all objects of a version, too.
    pub fn add(&self, dataset: &str, model: &Model) -> Result<()> {
        let directory = self.objects.join(dataset);
        fs::create_dir_all(&directory).context("making a directory for a dataset's objects")?;
        for (_, file) in model.files() {
            fs::write(directory.join(key(file)), &file.bytes).context("writing an object")?;
        }
        Ok(())
    }

    /// The next `requests` for this dataset meet a fault, after which asking again helps.
    pub fn disturb(&self, dataset: &str, fault: Fault, requests: u32) -> Result<()> {
        self.tell(&Trouble::Passing(dataset.to_owned(), fault, requests))
    }

    /// All requests for this dataset meet a fault from now on.
    pub fn break_down(&self, dataset: &str, fault: Fault) -> Result<()> {
        self.tell(&Trouble::Lasting(dataset.to_owned(), fault))
    }

    /// Nothing is wrong with this dataset any more.
    pub fn heal(&self, dataset: &str) -> Result<()> {
        self.tell(&Trouble::None(dataset.to_owned()))
    }

    fn tell(&self, trouble: &Trouble) -> Result<()> {
        let line = serde_json::to_string(trouble)?;
        let mut words = self.words.lock();
        writeln!(words.0, "{line}").context("telling the source")?;
        let heard = hear(&mut words.1)?;
        if heard != line {
            bail!("told {line}, the source said {heard}");
        }
        Ok(())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hear(output: &mut impl std::io::BufRead) -> Result<String> {
    let mut line = String::new();
    output.read_line(&mut line).context("hearing the source")?;
    Ok(line.trim_end().to_owned())
}
