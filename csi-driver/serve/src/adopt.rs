//! What a start makes of what a predecessor left.

use std::collections::BTreeSet;

use crate::ServeError;
use crate::node::Node;

/// Goes on serving every version that is mounted at a target; releases everything else. A version that cannot be served
/// stays mounted and is tried again when it is published next.
pub(crate) fn adopt(node: &Node) -> Result<(), ServeError> {
    let survey = node.survey()?;
    let left: BTreeSet<String> = survey.keys().map(str::to_owned).collect();
    let keys: BTreeSet<String> = node.state.version_keys()?.into_iter().chain(left.iter().cloned()).collect();
    for key in keys {
        match node.release_unused(&key) {
            Ok(true) if left.contains(&key) => tracing::info!(version = key, "released a version that nobody uses"),
            Ok(true) => {}
            Ok(false) => match node.open_version(&key) {
                Ok(version) => tracing::info!(version = version.manifest.version, "adopted a mounted version"),
                Err(error) => tracing::error!(version = key, %error, "a mounted version cannot be served"),
            },
            Err(error) => tracing::error!(version = key, %error, "an unused version cannot be released"),
        }
    }
    let survey = node.survey()?;
    for volume in node.volumes.all() {
        if survey.version_at(&volume.target) != Some(&volume.version) {
            // Nothing is mounted there, after a reboot say. Whatever else is there is not touched.
            node.volumes.remove(&volume.target)?;
        }
    }
    Ok(())
}
