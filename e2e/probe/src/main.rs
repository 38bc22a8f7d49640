//! What test pods run: a small static program that reads a mounted dataset as its users do and prints what it found, so
//! that the same program on the source's own files must print the same.

mod digest;
mod model;
mod watch;

use std::path::PathBuf;

use clap::Parser;

#[derive(Parser)]
#[command(version, about = "Reads a dataset and prints what it found")]
enum Command {
    /// Reads every file below a directory and prints their number, bytes and one digest over all names and contents.
    Digest {
        /// Directory to read.
        dir: PathBuf,
        /// Print each file's SHA-256 and path too.
        #[arg(long)]
        list: bool,
    },
    /// Maps a safetensors file into memory and prints the Euclidean norm of every tensor.
    Model {
        /// The weights.
        file: PathBuf,
    },
    /// Reads files made by this crate's `content` until it is killed, and compares what it reads.
    Watch {
        /// Directory to read.
        dir: PathBuf,
        /// File to keep a report in.
        report: PathBuf,
        /// Path of a file below the directory to leave out.
        #[arg(long)]
        unread: Option<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Digest { dir, list } => {
            let tree = digest::tree(&dir, |line| {
                if list {
                    print!("{line}");
                }
            })?;
            println!("{tree}");
        }
        Command::Model { file } => {
            for norm in model::norms(&file)? {
                println!("{norm}");
            }
        }
        Command::Watch { dir, report, unread } => watch::watch(&dir, &report, unread.as_deref())?,
    }
    Ok(())
}
