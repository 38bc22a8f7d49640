//! Who may mount a dataset is decided when a pod starts, from what the API server says at that moment.

use crate::claims::grant;
use crate::lab::{PATIENCE, Space, claim_volume, claim_yaml, lab};

#[test]
#[ignore = "needs the cluster"]
fn a_grant_covers_the_named_service_account_until_it_is_taken_back() {
    let (owner, borrower) = (Space::new("owner"), Space::new("borrower"));
    owner.put(&[("a.txt", "granted")]);
    owner.dataset("d");
    owner.ready("d");
    let subject = format!("{{kind: ServiceAccount, name: trainer, namespace: {}}}", borrower.name);
    owner.apply_raw(&grant(&owner.name, &subject, ""));
    borrower.kubectl(&["create", "serviceaccount", "trainer"]).unwrap();
    // The kubelet backs off by volume: a pod that was refused delays the next one of the same claim, so each has its own.
    for claim in ["loan", "second", "third"] {
        borrower.apply_raw(&claim_yaml(&borrower.name, claim, &format!("{}/d", owner.name)));
        lab()
            .kubectl
            .wait(&borrower.name, &format!("pvc/{claim}"), "jsonpath={.status.phase}=Bound", PATIENCE)
            .unwrap();
    }
    borrower.start_as("good", "trainer", &claim_volume("loan"), "cat /data/a.txt");
    assert_eq!(borrower.log_of("good").unwrap(), "granted");
    borrower.start_as("other", "default", &claim_volume("second"), "cat /data/a.txt");
    let message = borrower.event("Pod", "other", "DatasetGrant");
    assert!(message.contains(&owner.name), "it has to say whom to ask: {message}");
    owner.delete("datasetgrant/g");
    borrower.start_as("late", "trainer", &claim_volume("third"), "cat /data/a.txt");
    borrower.event("Pod", "late", "DatasetGrant");
}

#[test]
#[ignore = "needs the cluster"]
fn an_expired_grant_grants_nothing() {
    let (owner, borrower) = (Space::new("owner"), Space::new("borrower"));
    owner.put(&[("a.txt", "x")]);
    owner.dataset("d");
    owner.ready("d");
    let subject = format!("{{kind: Namespace, name: {}}}", borrower.name);
    owner.apply_raw(&grant(&owner.name, &subject, "  expirationTime: \"2020-01-01T00:00:00Z\"\n"));
    owner.reason("datasetgrant/g", "Active", "Expired");
    borrower.apply_raw(&claim_yaml(&borrower.name, "loan", &format!("{}/d", owner.name)));
    borrower.event("PersistentVolumeClaim", "loan", "DatasetGrant");
}

#[test]
#[ignore = "needs the cluster"]
fn a_hand_made_volume_opens_no_foreign_dataset() {
    let (owner, thief) = (Space::new("owner"), Space::new("thief"));
    owner.put(&[("a.txt", "mine")]);
    owner.dataset("d");
    owner.ready("d");
    let uid = owner.value("dataset/d", ".metadata.uid");
    let (ns, name) = (&thief.name, &thief.name);
    thief.apply_raw(&format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  capacity: {{storage: 1Mi}}\n  \
         accessModes: [ReadOnlyMany]\n  storageClassName: ''\n  claimRef: {{name: stolen, namespace: {ns}}}\n  \
         csi:\n    driver: csi.granary.dev\n    volumeHandle: {name}\n    \
         volumeAttributes: {{dataset: d, namespace: {}, uid: {uid}}}\n---\n\
         apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: stolen, namespace: {ns}}}\nspec:\n  \
         storageClassName: ''\n  volumeName: {name}\n  accessModes: [ReadOnlyMany]\n  resources: {{requests: {{storage: 1Mi}}}}\n",
        owner.name
    ));
    thief.start("read", &claim_volume("stolen"), "cat /data/a.txt");
    thief.event("Pod", "read", "DatasetGrant");
    thief.delete("pod/read");
    thief.delete("pvc/stolen");
    thief.kubectl(&["delete", "pv", name]).unwrap();
}

#[test]
#[ignore = "needs the cluster"]
fn credentials_appear_nowhere_but_in_the_secret() {
    let space = Space::new("leak");
    space.put(&[("a.txt", "x")]);
    space.dataset("d");
    space.ready("d");
    space.start("reads", &claim_volume("d"), "cat /data/a.txt; mount; env; sleep 1000");
    space.running("reads");
    let mut seen = space.kubectl(&["get", "pods,jobs,pvc,datasets,datasetversions,events", "-o", "yaml"]).unwrap();
    let kubectl = &lab().kubectl;
    seen += &kubectl.run(["get", "pv,nodecaches,storageclasses", "-o", "yaml"]).unwrap();
    seen += &kubectl.run(["logs", "-n", granary_e2e::install::NAMESPACE, "daemonset/granary-node"]).unwrap();
    seen += &kubectl.run(["logs", "-n", granary_e2e::install::NAMESPACE, "deployment/granary-operator"]).unwrap();
    seen += &kubectl.logs(&space.name, "reads").unwrap();
    assert!(seen.contains(&space.name), "what was looked at has to be what was meant");
    assert!(!seen.contains(granary_e2e::s3::READER.secret_key), "the secret key appears outside of the Secret");
}
