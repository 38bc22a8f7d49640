//! Runs the operator: waits for the Lease, serves images, reconciles, and ends with the Lease.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum_server::tls_rustls::{RustlsConfig, from_tcp_rustls};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::events::Events;
use crate::health::{self, Readiness};
use crate::lease::Holder;
use crate::metrics::Metrics;
use crate::reconcile::claim::{self, Claims};
use crate::reconcile::dataset::job::JobSettings;
use crate::reconcile::dataset::{self, Datasets};
use crate::reconcile::dataset_version::{self, DatasetVersions};
use crate::reconcile::grant::{self, Grants};
use crate::reconcile::storage_class::{self, StorageClasses};
use crate::reconcile::volume::{self, Volumes};
use crate::reconcile::{Context, runner};
use crate::startup;
use crate::store::gc::Collector;
use crate::store::server::{Service, router};
use crate::store::tls::{self, StoreTls};
use crate::store::{ClusterDesk, DeskSettings, Directory, ImageStore, JobRegistry, KubeReviewer};
use crate::world::World;

/// Largest artifact, in bytes: an image of some hundred million files.
const MAX_ARTIFACT_BYTES: u64 = 16 << 30;
/// How long requests under way may take when the operator ends.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until SIGTERM, SIGINT, or the loss of the Lease, which is an error.
pub async fn run(args: &RunArgs) -> anyhow::Result<()> {
    // Another crate may bring another provider; rustls wants one to be chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let common = &args.common;
    let mut config = Config::infer().await.context("find the API server")?;
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();

    let serving = health::serve(args.listen, Arc::clone(&metrics), readiness.clone(), stop.clone()).await;
    let serving = serving.with_context(|| format!("listen on {}", args.listen))?;
    tasks.spawn(async move { serving.await.context("serve health and metrics") });

    let unfenced = Client::try_from(config.clone()).context("find the API server")?;
    let holder = Holder::new(unfenced, &common.namespace, &common.pod_name);
    // A repetition inside the client would pass the fence unseen; what fails is repeated by whoever asked.
    config.default_retry = false;
    let client = ClientBuilder::try_from(config).context("find the API server")?.with_layer(&holder.fence()).build();
    let ended = tokio::select! {
        () = holder.acquire() => None,
        signal = terminated() => Some(signal),
    };
    if let Some(signal) = ended {
        return signal;
    }
    tracing::info!(instance = common.pod_name, "leading");
    metrics.leader.set(1);

    let leading = lead(args, &client, metrics, readiness.clone(), stop.clone(), &mut tasks);
    let outcome = tokio::select! {
        started = leading => match started {
            Ok(()) => tokio::select! {
                lost = holder.keep() => Err(lost.into()),
                signal = terminated() => signal,
                Some(ended) = tasks.join_next() => match ended {
                    Ok(Ok(())) => Err(anyhow::anyhow!("a part of the operator ended")),
                    Ok(Err(error)) => Err(error),
                    Err(panic) => Err(panic.into()),
                },
            },
            Err(error) => Err(error),
        },
        // Starting may take long, and the Lease must not end meanwhile.
        lost = holder.keep() => Err(lost.into()),
        signal = terminated() => signal,
    };
    readiness.set(false);
    if let Err(error) = &outcome {
        // Whoever leads now must not find us at work.
        bail!("stopping at once: {error:#}");
    }
    tracing::info!("stopping");
    stop.cancel();
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("requests under way were cut off");
    }
    holder.release().await.context("give the Lease back")
}

async fn terminated() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

type Tasks = JoinSet<anyhow::Result<()>>;

/// Starts everything that only a leader does.
async fn lead(
    args: &RunArgs,
    client: &Client,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: CancellationToken,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let store: Arc<dyn ImageStore> = {
        let opened = Directory::open(&args.store_dir, MAX_ARTIFACT_BYTES).await;
        Arc::new(opened.with_context(|| format!("open the image store {}", args.store_dir.display()))?)
    };
    let registry = JobRegistry::open(&args.store_dir).context("open the record of index Jobs")?;
    let registry = Arc::new(registry);
    let tls = tls::prepare(&args.store_dir, &[host(&args.store_url)?])?;
    startup::publish_ca(client, &args.common.namespace, &args.ca_config_map, &tls.ca_pem).await?;
    if let Some(path) = &args.default_class {
        startup::apply_default_class(client, path).await?;
    }

    let context = Arc::new(Context {
        client: client.clone(),
        world: World::watch(client),
        store: Arc::clone(&store),
        registry: Arc::clone(&registry),
        events: Events::new(client.clone(), &args.common.pod_name),
        metrics: Arc::clone(&metrics),
        jobs: job_settings(args, &tls),
    });
    context.world.ready().await;

    let commits = Arc::new(Mutex::new(()));
    let desk = DeskSettings {
        client: client.clone(),
        reviewer: Arc::new(KubeReviewer::new(client.clone())),
        registry,
        store: Arc::clone(&store),
        metrics: Arc::clone(&metrics),
        node_username: format!("system:serviceaccount:{}:{}", args.common.namespace, args.node_service_account),
    };
    let desk = Arc::new(ClusterDesk::new(desk, Arc::clone(&commits)));
    let service = Service { desk, store: Arc::clone(&store), metrics: Arc::clone(&metrics) };
    serve_store(args, tls, service, stop.clone(), tasks)?;
    reconcile(&context, &stop, tasks);
    let collector = Collector { client: client.clone(), context, store, commits, metrics };
    tasks.spawn(async move {
        collector.run(stop).await;
        Ok(())
    });
    readiness.set(true);
    Ok(())
}

fn job_settings(args: &RunArgs, tls: &StoreTls) -> JobSettings {
    JobSettings {
        namespace: args.common.namespace.clone(),
        image: args.image.clone(),
        image_pull_policy: args.image_pull_policy.clone(),
        image_pull_secrets: args.image_pull_secrets.clone(),
        resources: args.job_resources.clone(),
        store_url: args.store_url.clone(),
        store_ca: tls.ca_pem.clone(),
        file_roots: args.file_roots.clone(),
    }
}

/// The host of a URL such as `https://granary-operator.granary.svc:8443`.
fn host(url: &str) -> anyhow::Result<String> {
    let uri: axum::http::Uri = url.parse().with_context(|| format!("read --store-url '{url}'"))?;
    if uri.scheme_str() != Some("https") {
        bail!("--store-url must begin with https://, but is '{url}'");
    }
    uri.host().map(str::to_owned).with_context(|| format!("--store-url '{url}' names no host"))
}

fn serve_store(
    args: &RunArgs,
    tls: StoreTls,
    service: Service,
    stop: CancellationToken,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let address = args.store_listen;
    let listener = std::net::TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    listener.set_nonblocking(true).context("serve the image store")?;
    let handle = axum_server::Handle::new();
    let server = from_tcp_rustls(listener, RustlsConfig::from_config(tls.config)).context("serve the image store")?;
    let server = server.handle(handle.clone()).serve(router(service).into_make_service());
    tasks.spawn(async move { server.await.context("serve the image store") });
    tasks.spawn(async move {
        stop.cancelled().await;
        handle.graceful_shutdown(Some(DRAIN));
        Ok(())
    });
    tracing::info!(%address, "image store serves");
    Ok(())
}

fn reconcile(context: &Arc<Context>, stop: &CancellationToken, tasks: &mut Tasks) {
    macro_rules! start {
        ($reconciler:ty, $watched:ident, $module:ident) => {{
            let world = &context.world;
            let triggers = $module::triggers(world);
            let running =
                runner::run::<$reconciler>(Arc::clone(context), Arc::clone(&world.$watched), triggers, stop.clone());
            tasks.spawn(async move {
                running.await;
                Ok(())
            });
        }};
    }
    start!(Datasets, datasets, dataset);
    start!(DatasetVersions, versions, dataset_version);
    start!(Claims, claims, claim);
    start!(Volumes, volumes, volume);
    start!(StorageClasses, classes, storage_class);
    start!(Grants, grants, grant);
}
