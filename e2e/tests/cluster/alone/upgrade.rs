//! Releases are rolled out, and node processes and keepers die, while pods read: no read fails, and none gives wrong bytes.

use std::collections::BTreeSet;
use std::time::Duration;

use granary_e2e::daemon;
use granary_e2e::images::GranaryImage;
use granary_e2e::install::{self, NAMESPACE};
use granary_keeper::Client;

use super::processes;
use super::reading::{Reading, UNREAD, make};
use crate::lab::{PATIENCE, Space, lab, wait_until};

#[test]
#[ignore = "needs the cluster"]
fn pods_read_on_through_upgrades_and_kills() {
    let chart = Chart { image: GranaryImage::build(lab().cluster.paths()).unwrap() };
    let class = Class::new("upgrade", "128Mi");
    let space = Space::new("upgrade");
    // Larger than its cache: there is always something to fetch.
    make(&space, "cold", &[("a", 64), ("b", 64), ("c", 64)], &format!("  storageClassName: {}\n", class.name));
    make(&space, "held", &[("a", 2), ("b", 2), (UNREAD, 64)], "");
    make(&space, "whole", &[("a", 2), ("b", 2)], "  preload: true\n");
    make(&space, "parsed", &[("a", 2), ("b", 2), (UNREAD, 64)], "");
    let mut all: Vec<_> = ["cold", "held", "whole"].map(|dataset| Reading::start(&space, dataset)).into();
    layout(&space, "whole", &["EROFSLoopNative", "EROFSFile"]);
    let (keeper, interruptions) = (uids("keeper"), interruptions());

    let mut rolled = Rolled::now();
    chart.roll(&["node.layout=FUSE"]);
    rolled.node("another layout for new mounts");
    all.push(Reading::start(&space, "parsed"));
    layout(&space, "parsed", &["FUSE"]);
    layout(&space, "cold", &["EROFSLoopFUSE"]);
    layout(&space, "held", &["EROFSLoopFUSE"]);
    let mut tell = |what: &str| all.iter_mut().for_each(|reading| reading.tell(what));
    tell("the node rolled");
    chart.roll(&["podAnnotations.test=upgraded"]);
    rolled.node("all pods' annotations");
    rolled.operator("all pods' annotations");
    tell("node and operator rolled");
    chart.roll(&["podAnnotations.test=upgraded", "indexJob.resources.limits.memory=2Gi"]);
    rolled.operator("resources of Jobs");
    tell("the operator rolled");
    kill_node();
    tell("the node process killed");
    replace("node", &["--force", "--grace-period=0"]);
    rolled.node("a deletion by force");
    tell("the node's pod deleted by force");
    assert_eq!(uids("keeper"), keeper, "an upgrade replaces no keeper");

    let kept = kept();
    assert!(!kept.is_empty());
    replace("keeper", &[]);
    wait_until("the new keeper has what the old one had", || self::kept() == kept);
    tell("the keeper deleted");
    chart.roll(&[]);
    rolled.node("the values of before");
    tell("the node rolled, with another keeper");
    kill_node();
    tell("the node process killed, with another keeper");
    // Older ones may be gone by now.
    let more: Vec<_> = self::interruptions()
        .split_whitespace()
        .filter(|event| !interruptions.contains(event))
        .map(str::to_owned)
        .collect();
    assert_eq!(more, [""; 0], "a process says that reads may have failed");
}

/// The installed release, which has the values of all tests again in the end.
struct Chart {
    image: GranaryImage,
}

impl Chart {
    fn roll(&self, set: &[&str]) {
        install::helm_upgrade(&lab().cluster, &self.image, set).unwrap();
    }
}

impl Drop for Chart {
    fn drop(&mut self) {
        let back = install::helm_upgrade(&lab().cluster, &self.image, &[]);
        if !std::thread::panicking() {
            back.unwrap();
        }
    }
}

/// Pods as they were the last time that somebody looked.
struct Rolled {
    node: BTreeSet<String>,
    operator: BTreeSet<String>,
}

impl Rolled {
    fn now() -> Self {
        Self { node: uids("node"), operator: uids("operator") }
    }

    fn node(&mut self, what: &str) {
        let before = std::mem::replace(&mut self.node, uids("node"));
        assert!(self.node.is_disjoint(&before), "{what}: the node's pod is the same");
    }

    fn operator(&mut self, what: &str) {
        let before = std::mem::replace(&mut self.operator, uids("operator"));
        assert!(self.operator.is_disjoint(&before), "{what}: the operator's pod is the same");
    }
}

/// A class whose cache has this limit. It goes when it is dropped, for which its datasets have to be gone.
struct Class {
    name: String,
}

impl Class {
    fn new(name: &str, max_size: &str) -> Self {
        let name = format!("{name}-{:x}", rand::random::<u32>());
        let yaml = format!(
            "apiVersion: granary.dev/v1alpha1\nkind: DataStorageClass\nmetadata: {{name: {name}}}\nspec: {{cache: {{maxSize: {max_size}}}}}\n"
        );
        lab().kubectl.apply(&yaml).unwrap();
        lab().kubectl.wait("", &format!("datastorageclass/{name}"), "condition=Ready", PATIENCE).unwrap();
        Self { name }
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        let gone = lab().kubectl.run(["delete", "datastorageclass", &self.name, "--timeout=60s"]);
        if !std::thread::panicking() {
            gone.unwrap();
        }
    }
}

/// Ends the node process without a word; the kubelet starts another one in the same pod.
fn kill_node() {
    let pids = processes::of(&["/usr/bin/granary-csi", "node"]);
    assert_eq!(pids.len(), 1, "node processes: {pids:?}");
    daemon::terminate(pids[0], Duration::ZERO).unwrap();
}

/// Deletes a component's pod, and waits until another one is ready.
fn replace(component: &str, how: &[&str]) {
    let (selector, before) = (selector(component), uids(component));
    let pods = ["pod", "-n", NAMESPACE, "-l", &selector];
    lab().kubectl.run([&["delete"], &pods[..], how].concat()).unwrap();
    wait_until("there is another pod", || !uids(component).is_empty() && uids(component).is_disjoint(&before));
    lab().kubectl.run([&["wait"], &pods[..], &["--for=condition=Ready", "--timeout=120s"]].concat()).unwrap();
}

fn selector(component: &str) -> String {
    format!("app.kubernetes.io/component={component}")
}

/// The UIDs of a component's pods.
fn uids(component: &str) -> BTreeSet<String> {
    let uids = ["get", "pods", "-n", NAMESPACE, "-l", &selector(component), "-o", "jsonpath={.items[*].metadata.uid}"];
    let uids = lab().kubectl.run(uids).unwrap();
    uids.split_whitespace().map(str::to_owned).collect()
}

/// What the keeper has. Nothing while there is none.
fn kept() -> BTreeSet<String> {
    let socket = lab().cluster.node().kubelet_dir().join("plugins/csi.granary.dev/keeper/keeper.sock");
    let all = Client::connect(&socket, Duration::from_secs(5)).and_then(|client| client.all());
    all.map(|all| all.into_keys().collect()).unwrap_or_default()
}

/// Waits until the node reports that a dataset is mounted in one of these layouts.
fn layout(space: &Space, dataset: &str, wanted: &[&str]) {
    let uid = space.value(&format!("dataset/{dataset}"), ".metadata.uid");
    wait_until(&format!("{dataset} is mounted as one of {wanted:?}"), || {
        let (_, layouts) = crate::preload::reported(&uid);
        !layouts.is_empty() && layouts.iter().all(|layout| wanted.contains(&layout.as_str()))
    });
}

/// Events that say that reads may have failed.
fn interruptions() -> String {
    let counts = "jsonpath={range .items[*]}{.metadata.name}={.count}{.series.count} {end}";
    lab().kubectl.run(["get", "events", "-A", "--field-selector=reason=ReadsInterrupted", "-o", counts]).unwrap()
}
