//! What a start makes of what a predecessor left.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::live::LiveVersion;
use crate::node::Node;
use crate::{MountLayout, ServeError, keeping, served};

/// Goes on serving every version that is mounted at a target; releases everything else. A version that cannot be served
/// stays mounted and is tried again when it is published next.
pub(crate) fn adopt(node: &Node) -> Result<(), ServeError> {
    let survey = node.survey()?;
    let left: BTreeSet<String> = survey.keys().map(str::to_owned).collect();
    let keys: BTreeSet<String> = node.state.version_keys()?.into_iter().chain(left.iter().cloned()).collect();
    let (used, unused): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| node.has_targets(&survey, key));
    let adopted: Vec<_> = used.iter().filter_map(|key| go_on(node, key)).collect();
    node.blobs.begin();
    // What is moved or released waits for its reads, so not before they are answered.
    adopted.iter().for_each(|version| node.follow(version));
    // Nobody serves the rest of what was kept, so nobody shall wait for it.
    for name in node.blobs.keeping.discard_left() {
        match keeping::cut_short(&name) {
            Some(name) => interrupted(node, name, &adopted),
            None => tracing::info!(name, "nobody needs what was kept"),
        }
    }
    for key in unused {
        match node.release_unused(&key) {
            Ok(true) if left.contains(&key) => tracing::info!(version = key, "released a version that nobody uses"),
            Ok(_) => {}
            Err(error) => tracing::error!(version = key, %error, "an unused version cannot be released"),
        }
    }
    let survey = node.survey()?;
    for volume in node.volumes.all() {
        if survey.version_at(&volume.target) != Some(&volume.version) {
            // Nothing is mounted there, after a reboot say, or when a publish was interrupted.
            if volume.made_target {
                // Whatever else is there is not touched: only an empty directory goes.
                let _ = std::fs::remove_dir(&volume.target);
            }
            node.volumes.remove(&volume.target)?;
        }
    }
    Ok(())
}

/// A predecessor died while it moved a device away from a blob's file, which nobody kept in that moment.
fn interrupted(node: &Node, kept_as: &str, adopted: &[Arc<LiveVersion>]) {
    let mut interrupted = node.interrupted.lock();
    let on_loops = adopted.iter().filter(|version| version.layout() != MountLayout::EROFSFile);
    for manifest in on_loops.map(|version| &version.manifest) {
        let is_of = kept_as.ends_with(&format!("/{}", served::kept_as(manifest)));
        if is_of && !interrupted.contains(&manifest.version) {
            interrupted.push(manifest.version.clone());
        }
    }
}

/// Serves a version that is mounted at targets.
fn go_on(node: &Node, key: &str) -> Option<Arc<LiveVersion>> {
    match node.adopt_version(key) {
        Ok(version) => {
            tracing::info!(version = version.manifest.version, "adopted a mounted version");
            for volume in node.volumes.all().iter().filter(|volume| volume.version == key) {
                if let Err(error) = node.renew(key, &volume.target) {
                    tracing::error!(version = key, %error, "a dead mount cannot be renewed: the next publish tries again");
                }
            }
            Some(version)
        }
        Err(error) => {
            tracing::error!(version = key, %error, "a mounted version cannot be served");
            None
        }
    }
}
