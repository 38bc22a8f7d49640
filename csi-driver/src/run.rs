//! The node process from start to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use granary_crds::names::CSI_DRIVER;
use granary_serve::{Server, ServerConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{Cluster, KubernetesCluster, Remembering};
use crate::health::{tell_of_interruption, tell_of_kernel};
use crate::mounter::Mounter;
use crate::node::{Parts, serve};
use crate::options::NodeOptions;
use crate::server_mounter::ServerMounter;
use crate::store::{PAUSE, StoreClient};
use crate::{classes, node_cache};

/// Serves the pods of a node until SIGTERM or SIGINT. Mounts stay, and so do their pods.
pub async fn node(options: NodeOptions) -> anyhow::Result<()> {
    // Sockets are never open to others, not even for a moment.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;

    let api_server = Arc::new(KubernetesCluster::from_environment(options.node_name.clone())?);
    let max_age = Duration::from_secs(options.access_max_age_seconds);
    let remembering = Arc::new(Remembering::new(api_server, max_age));
    let cluster: Arc<dyn Cluster> = remembering.clone();
    let server = start(&options).await?;
    let store = Arc::new(StoreClient::new(options.store.address(), PAUSE));
    let mounter: Arc<dyn Mounter> =
        Arc::new(ServerMounter::new(server.clone(), store, options.cache_root, options.file_roots));
    let parts = Parts::new(options.node_name, cluster.clone(), mounter.clone());

    classes::configure(cluster.as_ref(), mounter.as_ref(), &parts.caches).await;
    tell_of_kernel(cluster.as_ref(), mounter.as_ref()).await;
    tell_of_interruption(cluster.as_ref(), &server.interrupted()).await;
    let health = parts.health();
    let grpc = serve(&parts, &options.kubelet_dir)?;
    let listener =
        TcpListener::bind(options.listen).await.with_context(|| format!("cannot listen at {}", options.listen))?;
    tracing::info!(node = parts.node, version = env!("CARGO_PKG_VERSION"), layout = ?mounter.support(), "serving");
    let ended = tokio::select! {
        ended = grpc => ended.context("the CSI services ended"),
        ended = axum::serve(listener, parts.router()) => ended.context("the HTTP server ended"),
        () = node_cache::report(cluster.as_ref(), mounter.as_ref(), &health, &parts.changed) => Ok(()),
        () = classes::follow(cluster.as_ref(), mounter.as_ref(), &parts.caches) => Ok(()),
        () = remembering.keep(mounter.as_ref()) => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("ending; mounts stay");
    server.stop(false).await;
    ended
}

/// Starts the data plane with the caches that it had before: what a predecessor left needs them at once, and a cache that cannot be
/// used is no reason not to serve the others.
async fn start(options: &NodeOptions) -> anyhow::Result<Arc<Server>> {
    let plugin = options.kubelet_dir.join("plugins").join(CSI_DRIVER);
    let state_dir = options.state_dir.clone().unwrap_or_else(|| plugin.join("state"));
    let parent = state_dir.parent().unwrap_or(&state_dir);
    std::fs::create_dir_all(parent).with_context(|| format!("cannot create '{}'", parent.display()))?;
    let keeper = Some(options.keeper_socket.clone().unwrap_or_else(|| plugin.join("keeper").join("keeper.sock")));
    let config = ServerConfig { state_dir, pools: BTreeMap::new(), layout: options.layout, keeper };
    let server = Server::start(config).await?;
    server.set_scrub_rate(options.scrub_mib_per_second << 20);
    Ok(server)
}
