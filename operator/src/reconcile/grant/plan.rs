//! What a grant permits now.

use granary_crds::conditions::{reasons, types};
use granary_crds::dataset_grant::SubjectKind;
use granary_crds::{DatasetGrant, DatasetGrantStatus};
use jiff::Timestamp;

use crate::conditions::Conditions;

/// The status of a grant.
pub fn status(grant: &DatasetGrant, dataset_exists: bool, now: Timestamp) -> DatasetGrantStatus {
    let before = grant.status.clone().unwrap_or_default();
    let generation = grant.metadata.generation;
    let mut conditions = Conditions::new(&before.conditions, generation, now);
    let dataset = &grant.spec.dataset_ref.name;
    if dataset_exists {
        conditions.set(types::READY, true, reasons::ACCEPTED, "the grant is understood");
    } else {
        let message = format!("there is no Dataset '{dataset}' in this namespace: create it, or grant another");
        conditions.set(types::READY, false, reasons::DATASET_NOT_FOUND, message);
    }
    if !dataset_exists {
        conditions.set(types::ACTIVE, false, reasons::NOT_ACCEPTED, "it permits nothing until it is Ready");
    } else if let Some(restriction) = grant.spec.restrictions.first() {
        let message = format!("this release does not know the restriction '{}': nodes refuse it", restriction.type_);
        conditions.set(types::ACTIVE, false, reasons::RESTRICTION_UNKNOWN, message);
    } else if is_expired(grant, now) {
        let message = "its expirationTime is over: set a later one to permit mounts again";
        conditions.set(types::ACTIVE, false, reasons::EXPIRED, message);
    } else {
        conditions.set(types::ACTIVE, true, reasons::IN_FORCE, "it permits mounts");
    }
    DatasetGrantStatus { observed_generation: generation, conditions: conditions.finish() }
}

/// Whether `grant` lets some pods of `namespace` mount the dataset that it names.
pub fn covers(grant: &DatasetGrant, dataset: &str, namespace: &str, now: Timestamp) -> bool {
    grant.spec.dataset_ref.name == dataset
        && grant.metadata.deletion_timestamp.is_none()
        && grant.spec.restrictions.is_empty()
        && !is_expired(grant, now)
        && grant.spec.subjects.iter().any(|subject| match subject.kind {
            SubjectKind::Namespace => subject.name == namespace,
            SubjectKind::ServiceAccount => subject.namespace.as_deref() == Some(namespace),
            SubjectKind::Unknown => false,
        })
}

fn is_expired(grant: &DatasetGrant, now: Timestamp) -> bool {
    grant.spec.expiration_time.as_ref().is_some_and(|time| time.0 <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::find;
    use serde_json::{Value, json};

    fn grant(changes: Value) -> DatasetGrant {
        let mut spec = json!({"datasetRef": {"name": "d"}, "subjects": [{"kind": "Namespace", "name": "b"}]});
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "g", "namespace": "a", "generation": 3}, "spec": spec}))
            .unwrap()
    }

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn conditions_by_table() {
        let past = json!({"expirationTime": "2026-01-01T00:00:00Z"});
        let restricted = json!({"restrictions": [{"type": "Purpose"}]});
        for (changes, exists, ready, active) in [
            (json!({}), true, reasons::ACCEPTED, reasons::IN_FORCE),
            (json!({}), false, reasons::DATASET_NOT_FOUND, reasons::NOT_ACCEPTED),
            (past, true, reasons::ACCEPTED, reasons::EXPIRED),
            (json!({"expirationTime": "2027-01-01T00:00:00Z"}), true, reasons::ACCEPTED, reasons::IN_FORCE),
            (restricted, true, reasons::ACCEPTED, reasons::RESTRICTION_UNKNOWN),
        ] {
            let status = status(&grant(changes.clone()), exists, now());
            assert_eq!(find(&status.conditions, types::READY).unwrap().reason, ready, "{changes}");
            assert_eq!(find(&status.conditions, types::ACTIVE).unwrap().reason, active, "{changes}");
            assert_eq!(status.observed_generation, Some(3));
        }
    }

    #[test]
    fn coverage_by_table() {
        let account = json!({"subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": "c"}]});
        for (changes, namespace, covered) in [
            (json!({}), "b", true),
            (json!({}), "c", false),
            (json!({"expirationTime": "2026-01-01T00:00:00Z"}), "b", false),
            (json!({"restrictions": [{"type": "Purpose"}]}), "b", false),
            (json!({"subjects": [{"kind": "Group", "name": "b"}]}), "b", false),
            (account.clone(), "c", true),
            (account, "s", false),
        ] {
            assert_eq!(covers(&grant(changes.clone()), "d", namespace, now()), covered, "{changes} {namespace}");
            assert!(!covers(&grant(changes), "other", namespace, now()));
        }
    }
}
