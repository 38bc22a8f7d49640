//! The three ways to a volume, and what happens to claims that ask for something else.

use crate::lab::{PATIENCE, Space, claim_yaml, lab};

#[test]
#[ignore = "needs the cluster"]
fn a_claim_of_the_class_binds_once_it_may() {
    let (owner, borrower) = (Space::new("owner"), Space::new("borrower"));
    owner.put(&[("a.txt", "shared")]);
    borrower.apply_raw(&claim_yaml(&borrower.name, "loan", &format!("{}/d", owner.name)));
    let unknown = borrower.event("PersistentVolumeClaim", "loan", "DatasetGrant");
    owner.dataset("d");
    owner.ready("d");
    assert_eq!(borrower.value("pvc/loan", ".status.phase"), "Pending");
    let ungranted = borrower.event("PersistentVolumeClaim", "loan", "DatasetGrant");
    assert_eq!(unknown, ungranted, "who may not know of a dataset must not learn whether it exists");
    owner.apply_raw(&grant(&owner.name, &format!("{{kind: Namespace, name: {}}}", borrower.name), ""));
    lab().kubectl.wait(&borrower.name, "pvc/loan", "jsonpath={.status.phase}=Bound", PATIENCE).unwrap();
    assert_eq!(borrower.run("read", "loan", "cat /data/a.txt").unwrap(), "shared");
    let objects = borrower.kubectl(&["get", "datasets,datasetversions,jobs,secrets", "-o", "name"]).unwrap();
    assert_eq!(objects, "secret/s3-read", "nothing may appear in a borrower's namespace");
}

#[test]
#[ignore = "needs the cluster"]
fn a_claim_that_asks_for_something_else_stays_pending_and_says_why() {
    let space = Space::new("asks");
    let yaml = claim_yaml(&space.name, "rw", "d").replace("ReadOnlyMany", "ReadWriteOnce");
    space.apply_raw(&yaml);
    space.event("PersistentVolumeClaim", "rw", "ReadOnlyMany");
    let none = claim_yaml(&space.name, "none", "d").replace("annotations: {granary.dev/dataset: d}", "annotations: {}");
    space.apply_raw(&none);
    space.event("PersistentVolumeClaim", "none", "granary.dev/dataset");
    space.apply_raw(&claim_yaml(&space.name, "later", "d"));
    space.event("PersistentVolumeClaim", "later", "d");
    space.put(&[("x", "x")]);
    space.dataset("d");
    lab().kubectl.wait(&space.name, "pvc/later", "jsonpath={.status.phase}=Bound", PATIENCE).unwrap();
    for name in ["rw", "none"] {
        assert_eq!(space.value(&format!("pvc/{name}"), ".status.phase"), "Pending");
    }
}

#[test]
#[ignore = "needs the cluster"]
fn somebody_elses_claim_of_the_name_is_left_alone() {
    let space = Space::new("conflict");
    space.put(&[("x", "x")]);
    let yaml = claim_yaml(&space.name, "d", "d").replace("storageClassName: granary", "storageClassName: other");
    space.apply_raw(&yaml);
    let uid = space.value("pvc/d", ".metadata.uid");
    space.dataset("d");
    space.ready("d");
    space.reason("dataset/d", "ClaimBound", "ClaimConflict");
    assert_eq!(space.value("pvc/d", ".metadata.uid"), uid);
    assert_eq!(space.value("pvc/d", ".metadata.ownerReferences"), "");
}

#[test]
#[ignore = "needs the cluster"]
fn an_inline_volume_is_for_public_datasets_of_the_own_namespace() {
    let space = Space::new("inline");
    space.put(&[("x", "x")]);
    space.dataset("d");
    space.ready("d");
    let inline = |attributes: &str| {
        format!("csi: {{driver: csi.granary.dev, readOnly: true, volumeAttributes: {{{attributes}}}}}")
    };
    space.start("secret", &inline("dataset: d"), "cat /data/x");
    let message = space.event("Pod", "secret", "use a claim");
    assert!(message.contains("claimName") || message.contains("claim"), "{message}");
    space.start("foreign", &inline("dataset: d, namespace: kube-system"), "cat /data/x");
    space.event("Pod", "foreign", "namespace");
}

/// A grant of the dataset `d`.
pub fn grant(namespace: &str, subject: &str, more: &str) -> String {
    format!(
        "apiVersion: granary.dev/v1alpha1\nkind: DatasetGrant\nmetadata: {{name: g, namespace: {namespace}}}\n\
         spec:\n  datasetRef: {{name: d}}\n  subjects: [{subject}]\n{more}"
    )
}
