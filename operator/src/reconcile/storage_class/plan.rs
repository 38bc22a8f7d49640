//! What shall be done about a class.

use std::sync::Arc;

use granary_crds::conditions::{reasons, types};
use granary_crds::names::{CSI_DRIVER, STORAGE_CLASS_PARAMETER};
use granary_crds::{DataStorageClass, DataStorageClassStatus};
use jiff::Timestamp;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use serde_json::json;

use crate::conditions::Conditions;
use crate::events::{Note, Severity};
use crate::reconcile::owner;

/// What is known of a class.
pub struct Observed {
    /// Now.
    pub now: Timestamp,
    /// The class.
    pub class: Arc<DataStorageClass>,
    /// The StorageClass of the same name, whoever made it.
    pub storage_class: Option<Arc<StorageClass>>,
    /// All classes.
    pub classes: Vec<Arc<DataStorageClass>>,
    /// How many Datasets name it.
    pub datasets: usize,
}

/// What shall be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whether the finalizer shall be there.
    pub finalizer: bool,
    /// Whether the StorageClass shall be made.
    pub create: bool,
    /// The status; none: the object goes away.
    pub status: Option<DataStorageClassStatus>,
    /// What a user should know.
    pub notes: Vec<Note>,
}

/// Plans for one class.
pub fn plan(seen: &Observed) -> Plan {
    if seen.class.metadata.deletion_timestamp.is_some() && seen.datasets == 0 {
        return Plan::default();
    }
    let before = seen.class.status.clone().unwrap_or_default();
    let generation = seen.class.metadata.generation;
    let mut conditions = Conditions::new(&before.conditions, generation, seen.now);
    let mut notes = Vec::new();
    let mut create = false;
    let name = seen.class.name_any();
    let mut fail = |conditions: &mut Conditions<'_>, reason: &str, message: String| {
        notes.push(Note::new(Severity::Warning, reason, "MakeStorageClass", message.clone()));
        conditions.set(types::READY, false, reason, message);
    };
    match (shares_path(seen), &seen.storage_class) {
        (Some(other), _) => {
            let path = cache_path(&seen.class);
            let message = format!(
                "its cache directory '{path}' and that of the class '{other}' lie in each other: create a class with another \
                 spec.cache.path"
            );
            fail(&mut conditions, reasons::PATH_SHARED, message);
        }
        (None, Some(found)) if !owner::is_owned_by(found.as_ref(), seen.class.as_ref()) => {
            let message = format!(
                "a StorageClass '{name}' that is not this class's exists: delete it, or give the DataStorageClass another name"
            );
            fail(&mut conditions, reasons::STORAGE_CLASS_CONFLICT, message);
        }
        (None, found) => {
            create = found.is_none() && seen.class.metadata.deletion_timestamp.is_none();
            let message = match seen.class.metadata.deletion_timestamp {
                None => "claims and Datasets can name it".to_owned(),
                Some(_) => format!("deleted, but {} Datasets name it: it goes when they are gone", seen.datasets),
            };
            conditions.set(types::READY, true, reasons::STORAGE_CLASS_READY, message);
        }
    }
    let status = DataStorageClassStatus { observed_generation: generation, conditions: conditions.finish() };
    Plan { finalizer: seen.datasets > 0, create, status: Some(status), notes }
}

/// The StorageClass of a class: its parameters are immutable, so they name only the class, whose settings can change.
pub fn storage_class(class: &DataStorageClass) -> Result<StorageClass, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": class.name_any(), "ownerReferences": owner::reference(class)},
        "provisioner": CSI_DRIVER,
        "parameters": {STORAGE_CLASS_PARAMETER: class.name_any()},
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": false,
    }))
}

fn cache_path(class: &DataStorageClass) -> String {
    class.spec.cache.path.clone().unwrap_or_else(|| class.name_any())
}

/// The older class whose directory lies in ours, or ours in it.
fn shares_path(seen: &Observed) -> Option<String> {
    let age = |class: &DataStorageClass| (class.creation_timestamp().map(|time| time.0), class.name_any());
    let own = format!("{}/", cache_path(&seen.class));
    let shared = |other: &&Arc<DataStorageClass>| {
        let path = format!("{}/", cache_path(other));
        path.starts_with(&own) || own.starts_with(&path)
    };
    let older = seen.classes.iter().filter(|other| age(other) < age(&seen.class));
    older.filter(|other| other.uid() != seen.class.uid()).find(shared).map(|other| other.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::find;

    fn class(name: &str, path: Option<&str>, created: &str) -> Arc<DataStorageClass> {
        let class = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "creationTimestamp": created},
            "spec": {"cache": {"path": path}},
        });
        Arc::new(serde_json::from_value(class).unwrap())
    }

    fn seen(classes: &[Arc<DataStorageClass>], storage_class: Option<StorageClass>, datasets: usize) -> Observed {
        Observed {
            now: Timestamp::now(),
            class: Arc::clone(classes.last().unwrap()),
            storage_class: storage_class.map(Arc::new),
            classes: classes.to_vec(),
            datasets,
        }
    }

    fn reason(plan: &Plan) -> String {
        find(&plan.status.as_ref().unwrap().conditions, types::READY).unwrap().reason.clone()
    }

    #[test]
    fn makes_its_storage_class_once_and_keeps_off_anothers() {
        let class = class("fast", None, "2026-01-01T00:00:00Z");
        let ours = storage_class(&class).unwrap();
        let foreign = StorageClass { metadata: Default::default(), ..ours.clone() };
        for (found, create, expected) in [
            (None, true, reasons::STORAGE_CLASS_READY),
            (Some(ours), false, reasons::STORAGE_CLASS_READY),
            (Some(foreign), false, reasons::STORAGE_CLASS_CONFLICT),
        ] {
            let plan = plan(&seen(&[Arc::clone(&class)], found, 0));
            assert_eq!(plan.create, create);
            assert_eq!(reason(&plan), expected);
            assert!(!plan.finalizer);
        }
    }

    #[test]
    fn the_younger_of_two_with_one_directory_is_refused() {
        for (first, second, shared) in [
            (Some("a"), Some("b"), false),
            (Some("a"), Some("ab"), false),
            (Some("a"), Some("a"), true),
            (Some("a"), Some("a/b"), true),
            (Some("a/b"), Some("a"), true),
            (None, Some("old"), true),
        ] {
            let old = class("old", first, "2026-01-01T00:00:00Z");
            let new = class("new", second, "2026-01-02T00:00:00Z");
            let refused = plan(&seen(&[Arc::clone(&old), Arc::clone(&new)], None, 0));
            assert_eq!(reason(&refused) == reasons::PATH_SHARED, shared, "{first:?} {second:?}");
            assert_eq!(reason(&plan(&seen(&[new, old], None, 0))), reasons::STORAGE_CLASS_READY);
        }
    }

    #[test]
    fn deletion_waits_for_datasets() {
        let mut class = class("fast", None, "2026-01-01T00:00:00Z");
        assert!(plan(&seen(&[Arc::clone(&class)], None, 2)).finalizer);
        let deleted = "2026-02-01T00:00:00Z".parse().unwrap();
        Arc::make_mut(&mut class).metadata.deletion_timestamp = Some(granary_crds::Time(deleted));
        let waits = plan(&seen(&[Arc::clone(&class)], None, 2));
        assert!(waits.finalizer && !waits.create);
        let message = &find(&waits.status.as_ref().unwrap().conditions, types::READY).unwrap().message;
        assert!(message.contains("2 Datasets"), "{message}");
        let goes = plan(&seen(&[class], None, 0));
        assert!(!goes.finalizer && goes.status.is_none());
    }
}
