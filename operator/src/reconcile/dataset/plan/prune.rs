//! Which old versions are not kept.

use std::collections::BTreeSet;

use granary_crds::DatasetVersion;
use jiff::Timestamp;

use super::super::observe::Observed;
use super::index::version_name;
use super::select::Selection;

/// Names of versions beyond `revisionHistoryLimit`, by the time at which they were last current, oldest first. Never the current or latest
/// one, a pinned one, one that a volume is fixed to, one in use, or the head of the blob: the next version extends its table.
pub fn prune(seen: &Observed, selection: &Selection) -> Vec<String> {
    let pin = seen.dataset.spec.pin.as_ref();
    let mut kept: BTreeSet<&str> = seen.fixed.iter().map(String::as_str).collect();
    kept.extend(selection.latest.as_deref().map(version_name));
    kept.extend(selection.current.as_deref().ok().map(version_name));
    kept.extend(seen.versions.last().map(|version| version_name(version)));
    kept.extend(pin.and_then(|pin| pin.version.as_deref()));
    kept.extend(pin.and_then(|pin| pin.digest.as_deref()));
    kept.extend(seen.usage.pods.keys().map(String::as_str));

    let is_kept = |version: &DatasetVersion| {
        kept.contains(version_name(version)) || kept.contains(version.spec.listing_digest.as_str())
    };
    let mut old: Vec<&DatasetVersion> =
        seen.versions.iter().map(AsRef::as_ref).filter(|version| !is_kept(version)).collect();
    old.sort_by_key(|version| (last_current(version), version.spec.revision));
    let limit = usize::try_from(seen.dataset.spec.revision_history_limit).unwrap_or_default();
    let surplus = old.len().saturating_sub(limit);
    old[..surplus].iter().map(|version| version_name(version).to_owned()).collect()
}

fn last_current(version: &DatasetVersion) -> Timestamp {
    let time = version.status.as_ref().and_then(|status| status.last_current_time.as_ref());
    time.or(version.metadata.creation_timestamp.as_ref()).map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
