//! Images and extent tables of versions that are not mounted: kept for the next pod, within bounds.

use std::time::SystemTime;

use crate::ServeError;
use crate::locks::NamedLocks;
use crate::node::Node;

/// Versions that are kept though nobody uses them.
const KEPT_VERSIONS: usize = 8;
/// Bytes of their artifacts.
const KEPT_BYTES: u64 = 1 << 30;

/// Removes the directories of unused versions beyond the bounds, those that were not used for the longest time first. One whose lock
/// is taken is being used.
pub(crate) fn trim(node: &Node, locks: &NamedLocks<String>) -> Result<(), ServeError> {
    let survey = node.survey()?;
    let mut unused: Vec<(SystemTime, String)> = Vec::new();
    for key in node.state.version_keys()? {
        if !node.is_used(&survey, &key)
            && let Some(used) = node.state.version(&key).last_use()
        {
            unused.push((used, key));
        }
    }
    unused.sort();
    let mut bytes = 0;
    for (nth, (_, key)) in unused.iter().rev().enumerate() {
        let dir = node.state.version(key);
        bytes += dir.bytes();
        if nth < KEPT_VERSIONS && bytes <= KEPT_BYTES {
            continue;
        }
        if let Some(_lock) = locks.try_lock(key.clone())
            && !node.is_used(&node.survey()?, key)
        {
            dir.remove()?;
        }
    }
    Ok(())
}
