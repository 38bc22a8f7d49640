//! A running pod keeps its version, the next one gets the current one; a pin and a rollback choose.

use crate::lab::{PATIENCE, Space, claim_volume, lab};

#[test]
#[ignore = "needs the cluster"]
fn a_refresh_moves_the_next_pod_and_a_pin_rolls_back() {
    let space = Space::new("versions");
    space.put(&[("a.txt", "one"), ("kept.txt", "kept")]);
    space.dataset("d");
    space.ready("d");
    let first = space.value("dataset/d", ".status.currentVersion.name");
    space.start("old", &claim_volume("d"), "sleep 1000");
    space.running("old");
    assert_eq!(space.exec("old", "cat /data/a.txt").unwrap(), "one");

    space.put(&[("a.txt", "two"), ("b.txt", "new")]);
    refresh(&space, "1");
    let second = space.value("dataset/d", ".status.currentVersion.name");
    assert_ne!(first, second);
    assert_eq!(space.value(&format!("datasetversion/{second}"), ".spec.revision"), "2");
    assert_eq!(space.run("next", "d", "cat /data/a.txt /data/b.txt /data/kept.txt").unwrap(), "twonewkept");
    assert_eq!(space.exec("old", "ls /data; cat /data/a.txt").unwrap(), "a.txt\nkept.txt\none");

    patch(&space, &format!(r#"{{"spec":{{"pin":{{"version":"{first}"}}}}}}"#));
    let current = format!("jsonpath={{.status.currentVersion.name}}={first}");
    lab().kubectl.wait(&space.name, "dataset/d", &current, PATIENCE).unwrap();
    assert_eq!(space.run("back", "d", "ls /data").unwrap(), "a.txt\nkept.txt");
    patch(&space, r#"{"spec":{"pin":{"version":"d-0000000000"}}}"#);
    space.reason("dataset/d", "Ready", "VersionNotFound");
    patch(&space, r#"{"spec":{"pin":null}}"#);
    let current = format!("jsonpath={{.status.currentVersion.name}}={second}");
    lab().kubectl.wait(&space.name, "dataset/d", &current, PATIENCE).unwrap();

    refresh(&space, "2");
    let versions = space.kubectl(&["get", "datasetversions", "-o", "name"]).unwrap();
    assert_eq!(versions.lines().count(), 2, "a refresh without a change makes no version: {versions}");
    let refused =
        space.kubectl(&["patch", "datasetversion", &second, "--type=merge", "-p", r#"{"spec":{"revision":9}}"#]);
    assert!(format!("{:#}", refused.unwrap_err()).contains("immutable"));
}

#[test]
#[ignore = "needs the cluster"]
fn several_sources_appear_in_their_directories_with_their_own_keys() {
    let space = Space::new("several");
    space.put(&[("img/1.jpg", "one"), ("img/2.txt", "skipped"), ("lab/x.csv", "labels")]);
    let reader = granary_e2e::s3::READER;
    space.secret_with(
        "s3-read",
        &[
            ("labels.AWS_ACCESS_KEY_ID", reader.access_key),
            ("labels.AWS_SECRET_ACCESS_KEY", reader.secret_key),
            ("AWS_ACCESS_KEY_ID", reader.access_key),
            ("AWS_SECRET_ACCESS_KEY", reader.secret_key),
        ],
    );
    let (uri, endpoint) = (space.uri(), lab().s3.endpoint());
    space.apply_raw(&format!(
        "apiVersion: granary.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: d, namespace: {}}}\nspec:\n  sources:\n  \
         - {{uri: '{uri}img/', path: clips, include: ['**/*.jpg', '*.jpg'], s3: {{endpoint: '{endpoint}'}}}}\n  \
         - {{uri: '{uri}lab/', path: labels, name: labels, s3: {{endpoint: '{endpoint}'}}}}\n  \
         credentials: {{secretRef: {{name: s3-read}}}}\n",
        space.name
    ));
    space.ready("d");
    let read = space.run("look", "d", "cd /data && find . -type f | sort && cat clips/1.jpg labels/x.csv").unwrap();
    assert_eq!(read, "./clips/1.jpg\n./labels/x.csv\nonelabels");
}

#[test]
#[ignore = "needs the cluster"]
fn pods_see_files_of_root_that_nobody_can_write() {
    let space = Space::new("modes");
    space.put(&[("d/a.txt", "x")]);
    space.dataset("d");
    space.ready("d");
    let seen =
        space.run("look", "d", "stat -c '%U:%G %a %n' /data /data/d /data/d/a.txt; touch /data/x 2>&1 || echo refused");
    let seen = seen.unwrap();
    assert!(seen.starts_with("root:root 555 /data\nroot:root 555 /data/d\nroot:root 444 /data/d/a.txt\n"), "{seen}");
    assert!(seen.contains("Read-only file system") && seen.ends_with("refused"), "{seen}");
}

fn refresh(space: &Space, text: &str) {
    patch(space, &format!(r#"{{"spec":{{"refresh":{{"manual":"{text}"}}}}}}"#));
    let done = format!("jsonpath={{.status.refresh.lastManual}}={text}");
    lab().kubectl.wait(&space.name, "dataset/d", &done, PATIENCE).unwrap();
}

fn patch(space: &Space, patch: &str) {
    space.kubectl(&["patch", "dataset", "d", "--type=merge", "-p", patch]).unwrap();
}
