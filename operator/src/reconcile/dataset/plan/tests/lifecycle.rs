//! Classes, claims and deletion.

use super::*;

#[test]
fn classes_and_policies() {
    let mut lost = seen(json!({}), 1);
    lost.class = None;
    assert_eq!(condition(&planned(&lost), types::READY), Some(("False", reasons::CLASS_NOT_FOUND)));
    for (source, policy, denied) in [
        (json!({"uri": "file:///data/x"}), json!({}), true),
        (json!({"uri": "file:///data/x"}), json!({"fileSources": "Allow"}), false),
        (json!({"uri": "file:///etc"}), json!({"fileSources": "Allow"}), true),
        (json!({"uri": "s3://b/", "identity": "Ambient"}), json!({}), true),
        (json!({"uri": "s3://b/", "identity": "Ambient"}), json!({"ambientIdentity": "Allow"}), false),
        (json!({"uri": "s3://b/", "identity": "Anonymous"}), json!({}), false),
        (json!({"uri": "s3://b/", "identity": "Later"}), json!({"ambientIdentity": "Allow"}), true),
    ] {
        let mut asked = seen(json!({"sources": [source]}), 0);
        let class = json!({"metadata": {"name": "granary"}, "spec": {"sourcePolicy": policy}});
        asked.class = Some(Arc::new(serde_json::from_value(class).unwrap()));
        let plan = planned(&asked);
        assert_eq!(plan.create_job.is_none(), denied, "{source} {policy}");
        let expected = if denied { reasons::SOURCE_DENIED } else { reasons::INDEXING };
        assert_eq!(condition(&plan, types::READY), Some(("False", expected)));
        assert_eq!(condition(&plan, types::STALLED).is_some(), denied);
    }
}

#[test]
fn a_dataset_of_files_never_names_a_secret() {
    let credentials = json!({"secretRef": {"name": "keys"}});
    let mixed = json!({"sources": [{"uri": "file:///data/x", "path": "x"}, {"uri": "s3://b/", "path": "y"}], "credentials": credentials});
    let mut asked = seen(mixed, 0);
    let class = json!({"metadata": {"name": "granary"}, "spec": {"sourcePolicy": {"fileSources": "Allow"}}});
    asked.class = Some(Arc::new(serde_json::from_value(class).unwrap()));
    let plan = planned(&asked);
    assert!(plan.create_job.is_none());
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::SOURCE_DENIED)));
}

#[test]
fn the_claim_is_made_with_the_first_version_and_never_taken() {
    let claim = |owner: Option<&str>, phase: &str| {
        let owners = owner
            .map(|uid| json!([{"apiVersion": "", "kind": "Dataset", "name": "d", "uid": uid, "controller": true}]));
        let claim =
            json!({"metadata": {"name": "d", "uid": "c", "ownerReferences": owners}, "status": {"phase": phase}});
        Some(Arc::new(serde_json::from_value(claim).unwrap()))
    };
    for (revisions, claim, create, bound) in [
        (0, None, false, None),
        (1, None, true, None),
        (1, claim(Some("u"), "Bound"), false, Some(("True", reasons::BOUND))),
        (1, claim(Some("u"), "Pending"), false, Some(("Unknown", "ClaimPending"))),
        (1, claim(None, "Bound"), false, Some(("False", reasons::CLAIM_CONFLICT))),
        (1, claim(Some("another"), "Bound"), false, Some(("False", reasons::CLAIM_CONFLICT))),
    ] {
        let mut seen = seen(json!({}), revisions);
        seen.claim = claim;
        let plan = planned(&seen);
        assert_eq!(plan.create_claim, create);
        assert_eq!(condition(&plan, types::CLAIM_BOUND), bound);
        let ours = matches!(bound, Some(("True" | "Unknown", _)));
        assert_eq!(plan.status.unwrap().claim.map(|claim| claim.uid), ours.then(|| "c".to_owned()));
    }
}

#[test]
fn deletion_waits_for_pods_but_not_in_a_namespace_that_ends() {
    let mut deleted = seen(json!({}), 1);
    let dataset = Arc::make_mut(&mut deleted.dataset);
    dataset.metadata.deletion_timestamp = Some(Time(at(90)));
    dataset.metadata.finalizers = Some(vec![granary_crds::names::IN_USE_FINALIZER.to_owned()]);
    job(&mut deleted, 1, JobState::Running(None));
    deleted.usage.pods.insert("d-1".to_owned(), 2);
    deleted.usage.nodes.insert("n1".to_owned());
    let plan = planned(&deleted);
    assert!(plan.finalizer && plan.create_job.is_none() && plan.delete_jobs.len() == 1);
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::DELETION_WAITS_FOR_PODS)));
    let message = &find(&plan.status.as_ref().unwrap().conditions, types::READY).unwrap().message;
    assert!(message.contains("2 pods") && message.contains("n1"), "{message}");

    deleted.namespace_ends = true;
    assert!(!planned(&deleted).finalizer);
    deleted.namespace_ends = false;
    deleted.usage = Usage::default();
    assert!(!planned(&deleted).finalizer);
}
