//! Deleting what is in use waits and loses nothing.

use crate::lab::{PATIENCE, Space, claim_volume, lab};

#[test]
#[ignore = "needs the cluster"]
fn deleting_a_dataset_in_use_waits_for_its_pods() {
    let space = Space::new("delete");
    space.put(&[("a.txt", "still here"), ("b.txt", "and this")]);
    space.dataset("d");
    space.ready("d");
    space.reason("dataset/d", "ClaimBound", "Bound");
    let volume = space.value("pvc/d", ".spec.volumeName");
    space.start("uses", &claim_volume("d"), "sleep 1000");
    space.running("uses");
    in_use(&space);
    space.kubectl(&["delete", "dataset", "d", "--wait=false"]).unwrap();
    let message = space.reason("dataset/d", "Ready", "DeletionWaitsForPods");
    assert!(message.contains('1'), "it has to say what it waits for: {message}");
    assert_eq!(space.exec("uses", "cat /data/a.txt /data/b.txt").unwrap(), "still hereand this");
    space.delete("pod/uses");
    gone("dataset/d", &space.name);
    gone(&format!("pv/{volume}"), &space.name);
}

#[test]
#[ignore = "needs the cluster"]
fn a_deleted_namespace_goes_at_once() {
    let space = Space::new("namespace");
    space.put(&[("a.txt", "x")]);
    space.dataset("d");
    space.ready("d");
    // Dropping the space deletes its namespace and fails when that takes too long.
    drop(space);
}

#[test]
#[ignore = "needs the cluster"]
fn a_class_gets_its_storage_class_and_waits_for_its_datasets() {
    let space = Space::new("class");
    space.put(&[("a.txt", "x")]);
    let class = space.name.clone();
    space.apply_raw(&format!(
        "apiVersion: granary.dev/v1alpha1\nkind: DataStorageClass\nmetadata: {{name: {class}}}\nspec: {{cache: {{maxSize: 128Mi}}}}\n"
    ));
    let kubectl = &lab().kubectl;
    kubectl.wait("", &format!("datastorageclass/{class}"), "condition=Ready", PATIENCE).unwrap();
    let provisioner = kubectl.run(["get", "storageclass", &class, "-o", "jsonpath={.provisioner}"]).unwrap();
    assert_eq!(provisioner, "csi.granary.dev");
    space.dataset_with("d", &space.uri(), &format!("  storageClassName: {class}\n"));
    space.ready("d");
    assert_eq!(space.run("read", "d", "cat /data/a.txt").unwrap(), "x");
    kubectl.run(["delete", "datastorageclass", &class, "--wait=false"]).unwrap();
    assert!(!kubectl.run(["get", "datastorageclass", &class, "--ignore-not-found"]).unwrap().is_empty());
    space.delete("pod/read");
    space.delete("dataset/d");
    gone(&format!("datastorageclass/{class}"), &space.name);
    assert_eq!(kubectl.run(["get", "storageclass", &class, "--ignore-not-found"]).unwrap(), "");
}

/// Waits until an object is gone, which may have happened already.
fn gone(object: &str, namespace: &str) {
    let kubectl = &lab().kubectl;
    if !kubectl.run(["get", "-n", namespace, object, "--ignore-not-found"]).unwrap().is_empty() {
        kubectl.run(["wait", "-n", namespace, "--for=delete", object, "--timeout=120s"]).unwrap();
    }
}

/// Waits until the node has reported the pod.
fn in_use(space: &Space) {
    let path =
        format!("jsonpath={{.items[*].status.datasets[?(@.namespace==\"{}\")].versions[*].podCount}}", space.name);
    let begun = std::time::Instant::now();
    while lab().kubectl.run(["get", "nodecaches", "-o", &path]).unwrap() != "1" {
        assert!(begun.elapsed() < PATIENCE, "no node reports the pod");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}
