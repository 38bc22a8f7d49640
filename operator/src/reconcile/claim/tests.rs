use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{Observed, Plan, plan};
use super::volume;
use super::wanted::wanted;

fn merged(mut base: Value, changes: Value) -> Value {
    if let (Value::Object(base), Value::Object(changes)) = (&mut base, &changes) {
        for (key, value) in changes {
            let old = base.remove(key).unwrap_or(Value::Null);
            base.insert(key.clone(), if old.is_object() { merged(old, value.clone()) } else { value.clone() });
        }
        return Value::Object(base.clone());
    }
    changes
}

fn claim(namespace: &str, changes: Value) -> Value {
    let base = json!({
        "metadata": {"name": "c", "namespace": namespace, "uid": "claim-uid", "annotations": {"granary.dev/dataset": "a/d"}},
        "spec": {"storageClassName": "granary", "accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "5Gi"}}},
    });
    merged(base, changes)
}

fn dataset() -> Value {
    json!({
        "metadata": {"name": "d", "namespace": "a", "uid": "dataset-uid"},
        "spec": {"sources": [{"uri": "s3://b/"}], "credentials": {"secretRef": {"name": "keys"}}},
    })
}

fn version() -> Value {
    json!({
        "metadata": {"name": "d-0123456789"},
        "spec": {"datasetName": "d", "revision": 1, "listingDigest": "sha256:aa", "fileCount": 1, "sizeBytes": 1,
            "blob": {"id": "b", "sizeBytes": 1}, "artifacts": [], "sources": [],
            "indexedTime": "2026-01-01T00:00:00Z", "indexerVersion": "0"},
    })
}

fn seen(claim: Value) -> Observed {
    let grant = json!({
        "metadata": {"name": "g", "namespace": "a"},
        "spec": {"datasetRef": {"name": "d"}, "subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": "granted"}]},
    });
    let get = |value: Value| Arc::new(serde_json::from_value(value).unwrap());
    Observed {
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        claim: Arc::new(serde_json::from_value(claim).unwrap()),
        dataset: Some(Arc::new(serde_json::from_value(dataset()).unwrap())),
        versions: vec![get(version())],
        grants: vec![Arc::new(serde_json::from_value(grant).unwrap())],
        has_volume: false,
    }
}

fn reason(seen: &Observed) -> &'static str {
    match plan(seen) {
        Plan::Nothing => "Nothing",
        Plan::Provision => "Provision",
        Plan::Pending { reason, .. } => reason,
    }
}

#[test]
fn by_table() {
    let annotated = |dataset: &str| json!({"metadata": {"annotations": {"granary.dev/dataset": dataset}}});
    let versioned = |version: &str| json!({"metadata": {"annotations": {"granary.dev/version": version}}});
    for (namespace, changes, expected) in [
        ("a", json!({}), "Provision"),
        ("a", annotated("d"), "Provision"),
        ("granted", json!({}), "Provision"),
        ("stranger", json!({}), "DatasetNotGranted"),
        ("a", json!({"spec": {"accessModes": ["ReadWriteMany"]}}), "AccessMode"),
        ("a", json!({"spec": {"accessModes": ["ReadOnlyMany", "ReadWriteOnce"]}}), "AccessMode"),
        ("a", json!({"spec": {"volumeMode": "Block"}}), "VolumeMode"),
        ("a", json!({"metadata": {"annotations": null}}), "DatasetNotNamed"),
        ("a", annotated("a/b/c"), "DatasetNotNamed"),
        ("a", annotated("/d"), "DatasetNotNamed"),
        ("a", versioned("d-0123456789"), "Provision"),
        ("a", versioned("sha256:aa"), "Provision"),
        ("a", versioned("d-9999999999"), "VersionNotFound"),
        ("a", json!({"spec": {"volumeName": "other"}}), "Nothing"),
        ("a", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), "Nothing"),
    ] {
        assert_eq!(reason(&seen(claim(namespace, changes.clone()))), expected, "{namespace} {changes}");
    }
}

#[test]
fn unknown_and_ungranted_have_one_text_for_others_only() {
    let ungranted = seen(claim("stranger", json!({})));
    let mut unknown = seen(claim("stranger", json!({})));
    unknown.dataset = None;
    assert_eq!(plan(&ungranted), plan(&unknown));
    let mut own = seen(claim("a", json!({})));
    own.dataset = None;
    assert_eq!(reason(&own), "DatasetNotFound");
}

#[test]
fn waits_for_the_first_version_and_makes_one_volume() {
    let mut early = seen(claim("a", json!({})));
    early.versions.clear();
    assert_eq!(reason(&early), "DatasetNotReady");
    let mut done = seen(claim("a", json!({})));
    done.has_volume = true;
    assert_eq!(reason(&done), "Nothing");
}

#[test]
fn the_volume_carries_the_owners_secret_and_is_recognised() {
    let seen = seen(claim("granted", json!({"metadata": {"annotations": {"granary.dev/version": "sha256:aa"}}})));
    let wanted = wanted(&seen.claim).unwrap();
    let mut volume = volume::volume(&seen.claim, seen.dataset.as_ref().unwrap(), &wanted).unwrap();
    assert!(volume::is_ours(&volume));
    let value = serde_json::to_value(&volume).unwrap();
    assert_eq!(value["metadata"]["name"], "granary-claim-uid");
    let spec = &value["spec"];
    assert_eq!(spec["csi"]["volumeHandle"], "granary-claim-uid");
    assert_eq!(spec["csi"]["nodePublishSecretRef"], json!({"name": "keys", "namespace": "a"}));
    assert_eq!(
        spec["csi"]["volumeAttributes"],
        json!({"dataset": "d", "namespace": "a", "uid": "dataset-uid", "version": "sha256:aa"})
    );
    assert_eq!(spec["claimRef"]["uid"], "claim-uid");
    assert_eq!(spec["capacity"]["storage"], "5Gi");
    assert_eq!(spec["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(value.pointer("/metadata/ownerReferences"), None);
    // One made by hand, whatever it says, is not ours to delete.
    volume.metadata.name = Some("by-hand".to_owned());
    assert!(!volume::is_ours(&volume));
}
