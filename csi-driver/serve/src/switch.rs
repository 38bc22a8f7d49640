//! Moves a version to the native file as soon as all of it is there, durably: in the background, below whoever reads.

use std::sync::{Arc, Weak};

use granary_blob::{Blob, PartsHold, Unready};
use granary_image::PartRanges;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::live::LiveVersion;

/// Looks after one version until it is dropped.
pub(crate) struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    /// Starts looking after `version`, which must be on loop devices.
    pub(crate) fn start(runtime: &Handle, version: &Arc<LiveVersion>) -> Self {
        let (blob, parts) = (version.blob.blob.clone(), version.parts.clone());
        Self(runtime.spawn(follow(Arc::downgrade(version), blob, parts)))
    }
}

/// Tries at the start, and whenever something has become durable.
async fn follow(version: Weak<LiveVersion>, blob: Arc<Blob>, parts: Arc<PartRanges>) {
    let mut durable = blob.durable();
    loop {
        durable.borrow_and_update();
        if on_fuse(&version)
            && let Some(hold) = ready(&blob, &parts).await
        {
            switch(version.clone(), hold).await;
        }
        if durable.changed().await.is_err() {
            return;
        }
    }
}

fn on_fuse(version: &Weak<LiveVersion>) -> bool {
    version.upgrade().is_some_and(|version| version.is_on_fuse())
}

/// Holds all parts, if they are there; sees to it that they are checked and durable.
async fn ready(blob: &Arc<Blob>, parts: &Arc<PartRanges>) -> Option<PartsHold> {
    let mut flushed = false;
    loop {
        let (of, held) = (blob.clone(), parts.clone());
        match tokio::task::spawn_blocking(move || of.hold(&held)).await.ok()? {
            Ok(hold) => return Some(hold),
            Err(Unready::Unverified) if blob.verify(parts).await => {}
            Err(Unready::NotDurable) if !flushed => {
                blob.flush().await;
                flushed = true;
            }
            Err(_) => return None,
        }
    }
}

async fn switch(version: Weak<LiveVersion>, hold: PartsHold) {
    let work = move || {
        let Some(version) = version.upgrade() else { return };
        let name = &version.manifest.version;
        match version.go_native(hold) {
            Ok(true) => tracing::info!(version = name, "all of it is cached: reading without the daemon from now on"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(version = name, %error, "the kernel keeps reading through the daemon");
                version.stay();
            }
        }
    };
    // An error means that the runtime is going down or that it panicked, which was reported.
    let _ = tokio::task::spawn_blocking(work).await;
}
