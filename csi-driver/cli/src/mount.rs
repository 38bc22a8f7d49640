//! `granary mount`: index, mount, wait, unmount.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use granary_blob::{BlobTag, PoolConfig};
use granary_fetch::{SecretKeys, SourceConfig, SourcePolicy};
use granary_index::Indexed;
use granary_serve::{Layout, Server, ServerConfig, VersionManifest};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::MountArgs;
use crate::cache::IndexDir;
use crate::keeper::{self, Beside};
use crate::size::show_size;
use crate::{indexing, sources};

const POOL: &str = "local";
/// Where datasets that are of no cluster are said to be.
pub const NAMESPACE: &str = "local";
const VOLUME: &str = "mount";
/// How often it is looked whether somebody has unmounted.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Mounts until a signal comes or somebody unmounts.
pub async fn run(args: MountArgs) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("mounting needs root, for loop devices and mounts: run it with sudo");
    }
    let mut stop = Stop::new()?;
    let secret = sources::secret(sources::environment);
    let configs = sources::configs(&args.uris, &args.source, &secret, sources::environment)?;
    prepare(&args)?;
    let keeper = Beside::start(&keeper::socket(&args.cache));
    if let Err(error) = &keeper {
        tracing::warn!("going on without a keeper: {error:#}");
    }
    let server = Server::start(server_config(&args)).await.context("cannot start")?;
    if let Layout::Unsupported(reason) = server.layout() {
        bail!("this kernel cannot mount datasets: {reason}");
    }
    // What a killed run left mounted was adopted. Here it may be what shall be mounted now, elsewhere it ends.
    server.unpublish_others(&args.mount_point).await;
    let result = tokio::select! {
        result = mount(&args, &configs, secret, &server) => result,
        () = stop.requested() => Err(anyhow::anyhow!("stopped before it was mounted")),
    };
    if result.is_ok() {
        wait(&server, &args.mount_point, &mut stop).await;
    }
    // By name, since a call that was given up may not have said yet what it does; this waits for it.
    let unmounted = server.unpublish(VOLUME, &args.mount_point).await.context("cannot unmount");
    server.stop(true).await;
    result.and(unmounted)
}

/// Makes the cache directory, so that the parts below need no directory above them.
fn prepare(args: &MountArgs) -> anyhow::Result<()> {
    match fs::create_dir(&args.cache) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make the cache directory {}", args.cache.display()))
        }
        _ => Ok(()),
    }
}

fn server_config(args: &MountArgs) -> ServerConfig {
    let pool = PoolConfig {
        dir: args.cache.join("pool"),
        max_bytes: args.cache_size,
        min_free_percent: args.min_free,
        min_free_bytes: 0,
    };
    let pools = BTreeMap::from([(POOL.to_owned(), pool)]);
    ServerConfig {
        state_dir: args.cache.join("server"),
        pools,
        layout: args.layout,
        keeper: Some(keeper::socket(&args.cache)),
    }
}

async fn mount(args: &MountArgs, configs: &[SourceConfig], secret: SecretKeys, server: &Server) -> anyhow::Result<()> {
    let start = Instant::now();
    let dir = IndexDir::open(&args.cache, configs)?;
    let (manifest, what) = if args.last {
        (VersionManifest { preload: args.preload, ..dir.last(configs)? }, "what was listed last".to_owned())
    } else {
        let indexed = indexing::run(configs, &secret, dir.parent(), dir.path()).await?;
        for skipped in &indexed.skipped {
            eprintln!("left out: {} {}, such as {:?}", skipped.count, skipped.reason.as_str(), skipped.examples);
        }
        let manifest = manifest(args, configs, &indexed);
        dir.keep(&indexed, &manifest)?;
        (manifest, format!("{} files ({})", indexed.file_count, show_size(indexed.size_bytes)))
    };
    // A killed run may have left another version there.
    if server.is_published(&args.mount_point) && !server.shows(&args.mount_point, &manifest) {
        server.unpublish(VOLUME, &args.mount_point).await?;
    }
    server.publish(VOLUME, &args.mount_point, &manifest, secret, &dir).await?;
    eprintln!(
        "mounted {what} at {} in {:.1} s; Ctrl-C unmounts",
        args.mount_point.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn manifest(args: &MountArgs, configs: &[SourceConfig], indexed: &Indexed) -> VersionManifest {
    let name = args.uris.join(" ");
    VersionManifest {
        dataset: BlobTag { dataset_uid: indexed.blob_id.clone(), namespace: NAMESPACE.to_owned(), name },
        version: indexed.listing_digest.to_string(),
        image: indexed.image.digest,
        image_bytes: indexed.image.bytes,
        extents: indexed.extents.digest,
        extents_bytes: indexed.extents.bytes,
        blob_id: indexed.blob_id.clone(),
        blob_bytes: indexed.blob_bytes,
        sources: configs.to_vec(),
        pool: POOL.to_owned(),
        policy: SourcePolicy::unrestricted(),
        preload: args.preload,
    }
}

async fn wait(server: &Server, mount_point: &Path, stop: &mut Stop) {
    loop {
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {
                if !server.is_published(mount_point) {
                    eprintln!("{} was unmounted", mount_point.display());
                    return;
                }
            }
        }
    }
}

/// Ctrl-C, or what service managers send.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
