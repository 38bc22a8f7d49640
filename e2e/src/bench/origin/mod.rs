//! The source that everything is read from: an S3 server, and a slow link to it. A process of its own, so that the CPU time that
//! it takes can be told from that of what is measured.

mod listing;
mod server;
mod written;

use std::io::BufRead;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::data::Dataset;
use super::raw;
use super::rows::Link;

/// Name of the command that runs the server's process.
const COMMAND: &str = "bench-origin";

/// How the slow link is slow.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Slowness {
    /// Milliseconds that are added to a round trip.
    pub(super) latency_ms: u64,
    /// Most megabytes (10^6 bytes) a second of all answers together.
    pub(super) cap_mb: u64,
}

/// What the server's process prints when it listens.
#[derive(Debug, Serialize, Deserialize)]
struct Ports {
    direct: u16,
    slow: u16,
}

/// What the server has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Served {
    /// Requests answered.
    pub(super) requests: u64,
    /// Bytes of contents handed to the network.
    pub(super) bytes: u64,
}

impl std::ops::Sub for Served {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, bytes: self.bytes - before.bytes }
    }
}

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Origin {
    child: Child,
    ports: Ports,
}

impl Origin {
    /// Starts this program again as a server of `datasets`.
    pub(super) fn start(datasets: &[Dataset], slowness: Slowness) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args([COMMAND, "--latency", &slowness.latency_ms.to_string(), "--cap", &slowness.cap_mb.to_string()]);
        command.args(datasets.iter().flat_map(|dataset| ["--dataset", dataset.prefix()]));
        // It ends with its standard input, so also when this process is killed.
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the benchmark's server")?;
        let mut line = String::new();
        let output = child.stdout.take().context("the server has an output")?;
        std::io::BufReader::new(output).read_line(&mut line).context("waiting for the benchmark's server")?;
        let ports = serde_json::from_str(&line).context("the benchmark's server did not start")?;
        Ok(Self { child, ports })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port that `link` begins at.
    pub(super) fn port(&self, link: Link) -> u16 {
        match link {
            Link::Direct => self.ports.direct,
            Link::Slow => self.ports.slow,
        }
    }

    /// What it has done so far.
    pub(super) fn served(&self) -> Result<Served> {
        let (status, body) = raw::get(self.ports.direct, server::STATISTICS)?;
        ensure!(status == 200, "the benchmark's server answers {status} for its statistics");
        serde_json::from_slice(&body).context("reading the server's statistics")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arguments of the server's process.
#[derive(Debug, clap::Args)]
pub struct OriginArguments {
    #[arg(long)]
    latency: u64,
    #[arg(long)]
    cap: u64,
    #[arg(long = "dataset")]
    datasets: Vec<Dataset>,
}

/// Serves until standard input ends: what the process of the server does.
pub fn serve(arguments: &OriginArguments) -> Result<()> {
    let slowness = Slowness { latency_ms: arguments.latency, cap_mb: arguments.cap };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ports = runtime.block_on(async {
        let direct = listen().await?;
        let slow = listen().await?;
        let ports = Ports { direct: direct.local_addr()?.port(), slow: slow.local_addr()?.port() };
        let target = direct.local_addr()?;
        let app = server::router(Arc::new(server::Shared::new(&arguments.datasets)));
        tokio::spawn(async move { axum::serve(direct, app).await });
        let slowness = granary_faults::Slowness {
            latency: Duration::from_millis(slowness.latency_ms),
            bytes_per_second: slowness.cap_mb * 1_000_000,
        };
        tokio::spawn(granary_faults::forward_slowly(slow, target, slowness));
        anyhow::Ok(ports)
    })?;
    println!("{}", serde_json::to_string(&ports)?);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("waiting for the end of standard input")?;
    Ok(())
}

async fn listen() -> Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.context("listening")
}
