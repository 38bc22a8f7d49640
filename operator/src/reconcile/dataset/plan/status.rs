//! The status of a Dataset.

use granary_crds::conditions::{reasons, types};
use granary_crds::dataset::{ClaimStatus, DatasetStatus};
use granary_crds::dataset_version::{DatasetVersionSpec, PinnedBy};
use kube::ResourceExt;

use super::ClaimState;
use super::index::{Indexing, Next, STALLED_AFTER, Why, version_name};
use super::select::{Selection, summary};
use crate::conditions::Conditions;
use crate::reconcile::dataset::observe::Observed;
use crate::reconcile::dataset::order::sources_hash;

/// Reason of a claim that Kubernetes has not bound yet.
const CLAIM_PENDING: &str = "ClaimPending";
/// Reason of a failed attempt that left no report.
const INDEX_FAILED: &str = "IndexFailed";

/// The status that follows from everything else.
pub(super) fn status(
    seen: &Observed,
    indexing: &Indexing,
    selection: &Selection,
    denial: Option<&str>,
    claim: &ClaimState,
) -> DatasetStatus {
    let before = seen.dataset.status.clone().unwrap_or_default();
    let generation = seen.dataset.metadata.generation;
    let mut conditions = Conditions::new(&before.conditions, generation, seen.now);
    ready(&mut conditions, seen, indexing, selection, denial);
    source_available(&mut conditions, seen, indexing, denial);
    source_unchanged(&mut conditions, seen, indexing, selection);
    if let Some(version) = selection.current.as_deref().ok().or(selection.latest.as_deref()) {
        content(&mut conditions, &version.spec);
    }
    match claim {
        ClaimState::NotYet | ClaimState::Missing => {}
        ClaimState::Foreign => {
            conditions.set(types::CLAIM_BOUND, false, reasons::CLAIM_CONFLICT, claim_conflict(seen));
        }
        ClaimState::Ours { bound: true, .. } => {
            conditions.set(types::CLAIM_BOUND, true, reasons::BOUND, "pods can mount the claim of this name");
        }
        ClaimState::Ours { bound: false, .. } => {
            conditions.set_unknown(types::CLAIM_BOUND, CLAIM_PENDING, "the claim of this name is being bound");
        }
    }
    progress(&mut conditions, indexing, denial);
    DatasetStatus {
        observed_generation: generation,
        current_version: selection.current.as_deref().ok().map(summary),
        latest_version: selection.latest.as_deref().map(summary),
        claim: match claim {
            ClaimState::Ours { uid, .. } => Some(ClaimStatus { name: seen.dataset.name_any(), uid: uid.clone() }),
            // Kept: a claim of the same name with another UID is then known to be somebody else's.
            _ => before.claim,
        },
        refresh: Some(indexing.refresh.clone()).filter(|refresh| *refresh != Default::default()),
        conditions: conditions.finish(),
    }
}

/// The status of a Dataset whose deletion waits for pods.
pub(super) fn waiting(seen: &Observed) -> DatasetStatus {
    let before = seen.dataset.status.clone().unwrap_or_default();
    let generation = seen.dataset.metadata.generation;
    let mut conditions = Conditions::new(&before.conditions, generation, seen.now);
    let nodes: Vec<&str> = seen.usage.nodes.iter().map(String::as_str).collect();
    let message = format!(
        "deleted, but {} use it on {}: it goes when they have ended",
        pods(seen.usage.pod_count()),
        nodes.join(", ")
    );
    conditions.set(types::READY, false, reasons::DELETION_WAITS_FOR_PODS, message);
    let others = before.conditions.iter().map(|condition| condition.type_.as_str());
    let kept = others.filter(|type_| ![types::READY, types::RECONCILING, types::STALLED].contains(type_));
    kept.for_each(|type_| conditions.keep(type_));
    DatasetStatus { observed_generation: generation, conditions: conditions.finish(), ..before }
}

/// Why the claim of the Dataset's name is left alone.
pub(super) fn claim_conflict(seen: &Observed) -> String {
    let name = seen.dataset.name_any();
    format!(
        "a claim '{name}' that is not this Dataset's exists: delete it, give the Dataset another name, or use claims of your own with \
         the annotation granary.dev/dataset: {name}"
    )
}

fn pods(count: i64) -> String {
    format!("{count} pod{}", if count == 1 { "" } else { "s" })
}

fn ready(
    conditions: &mut Conditions<'_>,
    seen: &Observed,
    indexing: &Indexing,
    selection: &Selection,
    denial: Option<&str>,
) {
    let class = &seen.dataset.spec.storage_class_name;
    let (reason, message) = if seen.class.is_none() {
        let message = format!("there is no DataStorageClass '{class}': create it, or name one of 'kubectl get dsc'");
        (reasons::CLASS_NOT_FOUND.to_owned(), message)
    } else {
        match &selection.current {
            Ok(version) if seen.stored.contains(version_name(version)) => {
                let message = format!("new pods get version {}", version_name(version));
                return conditions.set(types::READY, true, reasons::VERSION_CURRENT, message);
            }
            Ok(version) if indexing.why.is_some() => {
                let message = format!("the image of version {} is lost and is being made again", version_name(version));
                (reasons::INDEXING.to_owned(), message)
            }
            Ok(version) => {
                let message = format!(
                    "the image store has lost the pinned version {}: restore its volume, or pin another version",
                    version_name(version)
                );
                (reasons::IMAGE_MISSING.to_owned(), message)
            }
            // Before the first version the trouble with the source is why there is none.
            Err((reasons::INDEXING, message)) => why_not_yet(indexing, denial, message),
            Err((reason, message)) => ((*reason).to_owned(), message.clone()),
        }
    };
    conditions.set(types::READY, false, &reason, message);
}

fn why_not_yet(indexing: &Indexing, denial: Option<&str>, message: &str) -> (String, String) {
    if let Some(denial) = denial {
        return (reasons::SOURCE_DENIED.to_owned(), denial.to_owned());
    }
    let reported = indexing.failure.as_ref().and_then(|failure| Some((failure.reason.clone()?, &failure.message)));
    if let Some((reason, message)) = reported {
        return (reason, message.clone());
    }
    let lost = indexing.failure.as_ref().map(|failure| failure.message.clone());
    let detail = indexing.pod_problem.clone().or(lost);
    (reasons::INDEXING.to_owned(), detail.unwrap_or_else(|| message.to_owned()))
}

fn source_available(conditions: &mut Conditions<'_>, seen: &Observed, indexing: &Indexing, denial: Option<&str>) {
    let reported = indexing.failure.as_ref().and_then(|failure| Some((failure.reason.as_deref()?, &failure.message)));
    let looked = indexing.look.as_ref().is_some_and(|look| look.sources == sources_hash(&seen.dataset.spec));
    if let Some(denial) = denial {
        conditions.set(types::SOURCE_AVAILABLE, false, reasons::SOURCE_DENIED, denial);
    } else if let Some((reason, message)) = reported {
        conditions.set(types::SOURCE_AVAILABLE, false, reason, message);
    } else if looked && indexing.failure.is_none() {
        conditions.set(types::SOURCE_AVAILABLE, true, reasons::LISTED, "the sources were listed completely");
    } else {
        conditions.keep(types::SOURCE_AVAILABLE);
    }
}

/// A node that reads an old version finds changed objects for as long as its pods run; only what concerns the latest listing is news.
fn source_unchanged(conditions: &mut Conditions<'_>, seen: &Observed, indexing: &Indexing, selection: &Selection) {
    let (Some(latest), Some(look)) = (&selection.latest, &indexing.look) else {
        return;
    };
    let latest = version_name(latest);
    let concerns = |versions: &std::collections::BTreeSet<String>| versions.is_empty() || versions.contains(latest);
    let read = seen.usage.changed.iter().filter(|read| read.time > look.time && concerns(&read.versions));
    match read.max_by_key(|read| read.time) {
        Some(read) => {
            let message = format!(
                "node {} found an object replaced or deleted since it was pinned: restore it, or set spec.refresh.manual to make a new version",
                read.node
            );
            conditions.set(types::SOURCE_UNCHANGED, false, reasons::OBJECT_CHANGED, message);
        }
        None => {
            conditions.set(types::SOURCE_UNCHANGED, true, reasons::AS_PINNED, "every read found the pinned object");
        }
    }
}

fn content(conditions: &mut Conditions<'_>, version: &DatasetVersionSpec) {
    // An object that only marks a folder is no content.
    let keys: Vec<_> = version.skipped.iter().filter(|skipped| skipped.reason != reasons::FOLDER_MARKER).collect();
    let skipped: i64 = keys.iter().map(|skipped| skipped.count).sum();
    if version.file_count == 0 {
        let message = "the sources have no file: check uri, include and exclude";
        conditions.set(types::CONTENT_COMPLETE, false, reasons::EMPTY, message);
    } else if skipped > 0 {
        let parts: Vec<String> = keys.iter().map(|part| format!("{} {}", part.count, part.reason)).collect();
        let message =
            format!("{skipped} keys could not become files ({}): see spec.skipped of the version", parts.join(", "));
        conditions.set(types::CONTENT_COMPLETE, false, reasons::KEYS_SKIPPED, message);
    } else {
        conditions.set(types::CONTENT_COMPLETE, true, reasons::ALL_LISTED, "every key of the sources is a file");
    }
    let strong = |pinned_by| matches!(pinned_by, PinnedBy::VersionID | PinnedBy::ETag);
    match version.sources.iter().find(|source| source.file_count > 0 && !strong(source.pinned_by)) {
        Some(source) => {
            let message = format!(
                "'{}' has neither etags nor version ids: a change that keeps size and time cannot be found",
                source.uri
            );
            conditions.set(types::STRONGLY_PINNED, false, reasons::WEAK_SOURCE, message);
        }
        None => {
            let message = "every file is tied to its bytes by etag or version id";
            conditions.set(types::STRONGLY_PINNED, true, reasons::ALL_PINNED, message);
        }
    }
}

/// `Reconciling` and `Stalled`, which exist only while they are True.
fn progress(conditions: &mut Conditions<'_>, indexing: &Indexing, denial: Option<&str>) {
    if let Some(denial) = denial {
        conditions.set(types::STALLED, true, reasons::SOURCE_DENIED, denial);
        return;
    }
    // A later attempt under way does not heal what has failed: its result does.
    if let Some(failure) = indexing.failure.as_ref().filter(|failure| failure.attempt >= STALLED_AFTER) {
        let reason = failure.reason.as_deref().unwrap_or(INDEX_FAILED);
        conditions.set(types::STALLED, true, reason, &failure.message);
    } else if indexing.why.is_some_and(|why| why != Why::Period) && indexing.next != Next::Idle {
        let message = match indexing.next {
            Next::Wait(_) => "an attempt to index the sources has failed and is repeated",
            _ => "the sources are being indexed",
        };
        conditions.set(types::RECONCILING, true, reasons::INDEXING, indexing.pod_problem.as_deref().unwrap_or(message));
    }
}
