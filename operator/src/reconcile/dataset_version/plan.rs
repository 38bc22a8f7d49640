//! The status of a version.

use std::sync::Arc;

use granary_crds::conditions::{reasons, types};
use granary_crds::{DatasetVersion, DatasetVersionStatus, Time};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::conditions::{Conditions, find, is_true, seconds};
use crate::events::{Note, Severity};
use crate::reconcile::node::usage::{ChangedRead, Usage};

/// What is known of a version.
pub struct Observed {
    /// Now.
    pub now: Timestamp,
    /// The version.
    pub version: Arc<DatasetVersion>,
    /// Whether the image store holds all of its artifacts.
    pub stored: bool,
    /// The Dataset's current version.
    pub current: Option<String>,
    /// Names and revisions of all versions of the Dataset.
    pub siblings: Vec<(String, i64)>,
    /// What nodes report of the Dataset.
    pub usage: Usage,
}

/// The status, and what a user should know.
pub fn plan(seen: &Observed) -> (DatasetVersionStatus, Vec<Note>) {
    let before = seen.version.status.clone().unwrap_or_default();
    let generation = seen.version.metadata.generation;
    let name = seen.version.name_any();
    let mut notes = Vec::new();
    let mut conditions = Conditions::new(&before.conditions, generation, seen.now);
    if seen.stored {
        conditions.set(
            types::READY,
            true,
            reasons::IMAGE_STORED,
            "the image store holds everything that a mount needs",
        );
    } else {
        let message = "the image store has lost something of this version; nodes that do not have it cannot mount it. If it is the \
                       latest, it is made again";
        conditions.set(types::READY, false, reasons::IMAGE_MISSING, message);
        notes.push(Note::new(Severity::Warning, reasons::IMAGE_MISSING, "Store", message.to_owned()));
    }
    let current = seen.current.as_ref() == Some(&name);
    match current {
        true => conditions.set(types::CURRENT, true, reasons::SELECTED, "new pods get this version"),
        false => conditions.set(types::CURRENT, false, reasons::NOT_SELECTED, "new pods get another version"),
    }
    // An object that was replaced does not come back: once found, it stays said.
    if is_false(&before, types::SOURCE_UNCHANGED) {
        conditions.keep(types::SOURCE_UNCHANGED);
    } else if let Some(read) = seen.usage.changed.iter().find(|read| concerns(read, seen, &name)) {
        let message = format!(
            "node {} found an object replaced or deleted since it was pinned: such files cannot be read unless they are cached",
            read.node
        );
        notes.push(Note::new(Severity::Warning, reasons::OBJECT_CHANGED, "Read", message.clone()));
        conditions.set(types::SOURCE_UNCHANGED, false, reasons::OBJECT_CHANGED, message);
    } else {
        conditions.set(types::SOURCE_UNCHANGED, true, reasons::AS_PINNED, "every read found the pinned object");
    }
    let moved = current != is_true(&before.conditions, types::CURRENT);
    let last_current_time = if moved { Some(Time(seconds(seen.now))) } else { before.last_current_time };
    let status =
        DatasetVersionStatus { observed_generation: generation, last_current_time, conditions: conditions.finish() };
    (status, notes)
}

fn is_false(status: &DatasetVersionStatus, type_: &str) -> bool {
    find(&status.conditions, type_).is_some_and(|condition| condition.status == "False")
}

/// Nodes report reads by dataset. What they say is about the oldest version that pods use there: a newer one has the newer objects.
fn concerns(read: &ChangedRead, seen: &Observed, name: &str) -> bool {
    let published = seen.siblings.iter().filter(|(sibling, _)| read.versions.contains(sibling));
    let oldest = published.min_by_key(|(_, revision)| *revision);
    oldest.is_some_and(|(oldest, _)| oldest == name) && read.time > seen.version.spec.indexed_time.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn seen(current: bool, stored: bool) -> Observed {
        let version = json!({
            "metadata": {"name": "d-1", "generation": 1},
            "spec": {"datasetName": "d", "revision": 1, "listingDigest": "", "fileCount": 0, "sizeBytes": 0,
                "blob": {"id": "b", "sizeBytes": 0}, "artifacts": [], "sources": [],
                "indexedTime": "2026-01-01T00:00:00Z", "indexerVersion": "0"},
        });
        Observed {
            now: "2026-01-02T00:00:00Z".parse().unwrap(),
            version: Arc::new(serde_json::from_value(version).unwrap()),
            stored,
            current: current.then(|| "d-1".to_owned()),
            siblings: vec![("d-1".to_owned(), 1), ("d-2".to_owned(), 2)],
            usage: Usage::default(),
        }
    }

    fn reason<'a>(status: &'a DatasetVersionStatus, type_: &str) -> &'a str {
        &find(&status.conditions, type_).unwrap().reason
    }

    fn with_status(mut seen: Observed, status: DatasetVersionStatus) -> Observed {
        Arc::make_mut(&mut seen.version).status = Some(status);
        seen
    }

    #[test]
    fn says_whether_it_is_stored_and_current() {
        for (current, stored, ready, selected) in [
            (true, true, reasons::IMAGE_STORED, reasons::SELECTED),
            (false, true, reasons::IMAGE_STORED, reasons::NOT_SELECTED),
            (true, false, reasons::IMAGE_MISSING, reasons::SELECTED),
        ] {
            let (status, _) = plan(&seen(current, stored));
            assert_eq!(reason(&status, types::READY), ready);
            assert_eq!(reason(&status, types::CURRENT), selected);
            assert_eq!(reason(&status, types::SOURCE_UNCHANGED), reasons::AS_PINNED);
            assert_eq!(status.last_current_time.is_some(), current);
        }
    }

    #[test]
    fn its_own_status_changes_nothing() {
        let (status, _) = plan(&seen(true, true));
        let mut later = with_status(seen(true, true), status.clone());
        later.now = "2026-01-03T00:00:00Z".parse().unwrap();
        assert_eq!(plan(&later).0, status);
        later.current = None;
        assert_eq!(plan(&later).0.last_current_time.unwrap().0, later.now);
    }

    #[test]
    fn a_changed_object_is_laid_to_the_oldest_version_and_stays() {
        let mut changed = seen(true, true);
        let read = |versions: &[&str]| ChangedRead {
            node: "n".to_owned(),
            time: "2026-01-01T12:00:00Z".parse().unwrap(),
            versions: versions.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
        };
        changed.usage.changed = vec![read(&["d-2"])];
        assert_eq!(reason(&plan(&changed).0, types::SOURCE_UNCHANGED), reasons::AS_PINNED);
        changed.usage.changed = vec![read(&["d-1", "d-2"])];
        let (status, notes) = plan(&changed);
        assert_eq!(reason(&status, types::SOURCE_UNCHANGED), reasons::OBJECT_CHANGED);
        assert_eq!(notes.len(), 1);
        let (after, notes) = plan(&with_status(seen(true, true), status));
        assert_eq!(reason(&after, types::SOURCE_UNCHANGED), reasons::OBJECT_CHANGED);
        assert!(notes.is_empty());
    }
}
