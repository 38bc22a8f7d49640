//! The process that serves, and that is killed: a node's server without a cluster, told what to do by its standard input.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use granary_blob::PoolConfig;
use granary_fetch::SecretKeys;
use granary_image::Digest;
use granary_serve::{ArtifactError, ArtifactStore, LayoutChoice, Server, ServerConfig};

use super::wire::{Answer, Order, PoolSetup, Setup};

/// Name of the command that runs this.
pub const COMMAND: &str = "torture-node";

/// Arguments of the process.
#[derive(Debug, clap::Args)]
pub struct NodeArguments {
    /// A [`Setup`] as JSON.
    setup: String,
}

/// Serves until standard input ends: what the process does.
pub fn serve(arguments: &NodeArguments) -> Result<()> {
    // Only the first call can succeed, and this is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    // As in a release: a thread that is gone would leave its reader waiting for ever, a process has a successor.
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
    let setup: Setup = serde_json::from_str(&arguments.setup).context("reading the setup")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let pools = setup.pools.iter().map(|(name, pool)| (name.clone(), config(pool))).collect();
    let config = ServerConfig {
        state_dir: setup.state.clone(),
        pools,
        layout: LayoutChoice::Auto,
        keeper: setup.keeper.clone(),
    };
    let server = runtime.block_on(Server::start(config)).context("starting the server")?;
    answer(&Answer::Started(server.interrupted()))?;
    for line in std::io::stdin().lock().lines() {
        let order = serde_json::from_str(&line?).context("reading an order")?;
        if matches!(order, Order::Stop) {
            runtime.block_on(server.stop(false));
            answer(&Answer::Done)?;
            break;
        }
        answer(&runtime.block_on(obey(&server, &setup, order)))?;
    }
    // As in an orderly end of the real one, nothing waits for tasks that still read.
    runtime.shutdown_background();
    Ok(())
}

fn config(pool: &PoolSetup) -> PoolConfig {
    PoolConfig { dir: pool.dir.clone(), max_bytes: pool.max_bytes, min_free_percent: 0, min_free_bytes: 0 }
}

fn answer(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

async fn obey(server: &Arc<Server>, setup: &Setup, order: Order) -> Answer {
    let result = match order {
        Order::Publish { volume, target, version } => {
            let store = Directory(setup.artifacts.clone());
            server.publish(&volume, &target, &version, SecretKeys::default(), &store).await
        }
        Order::Unpublish { volume, target } => server.unpublish(&volume, &target).await,
        Order::Limit { pool, max_bytes } => match setup.pools.get(&pool) {
            Some(known) => server.set_pool(&pool, PoolConfig { max_bytes: Some(max_bytes), ..config(known) }),
            None => return Answer::Failed(format!("there is no cache {pool}")),
        },
        Order::Layouts => return Answer::Layouts(layouts(server).into_iter().collect()),
        Order::Stop => Ok(()),
    };
    match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(error.to_string()),
    }
}

fn layouts(server: &Server) -> BTreeMap<String, String> {
    let report = server.report();
    let versions = report.datasets.iter().flat_map(|dataset| {
        dataset
            .versions
            .iter()
            .map(move |version| (format!("{}/{}", dataset.tag.name, version.version), version.layout))
    });
    versions.map(|(name, layout)| (name, layout.as_str().to_owned())).collect()
}

/// Images and extent tables in a directory, by their digests.
struct Directory(PathBuf);

#[async_trait::async_trait]
impl ArtifactStore for Directory {
    async fn fetch(&self, digest: &Digest, _: u64, to: &Path) -> Result<(), ArtifactError> {
        std::fs::copy(self.0.join(digest.hex()), to).map(drop).map_err(|error| ArtifactError(error.to_string()))
    }
}
