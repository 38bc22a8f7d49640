//! The kubelet is stopped and killed while pods read, come and go: those that read notice nothing, the others come and go when it
//! is back.

use std::time::Duration;

use granary_crds::names::CSI_DRIVER;
use granary_e2e::cluster::Cluster;
use granary_e2e::daemon;

use super::reading::{Reading, UNREAD, make};
use crate::lab::{Space, claim_volume, lab, wait_until};

#[test]
#[ignore = "needs the cluster"]
fn pods_read_on_while_the_kubelet_restarts_and_others_come_and_go() {
    let before = mounts();
    let space = Space::new("kubelet");
    make(&space, "held", &[("a", 2), ("b", 2), (UNREAD, 64)], "");
    make(&space, "whole", &[("a", 2), ("b", 2)], "  preload: true\n");
    space.put(&[("d/a.txt", "after all")]);
    space.dataset_with("d", &format!("{}d/", space.uri()), "");
    space.ready("d");
    let mut all = ["held", "whole"].map(|dataset| Reading::start(&space, dataset));
    let mut tell = |what: &str| all.iter_mut().for_each(|reading| reading.tell(what));
    space.start("goes", &claim_volume("d"), "sleep 1000");
    space.running("goes");

    // The kubelet has been told of what it does not bring to an end.
    let goes = Goes::delete(&space, "goes");
    space.start("comes", &claim_volume("d"), "sleep 1000");
    let away = Away::begin(Duration::from_secs(10));
    tell("the kubelet stopped");
    away.end();
    comes(&space, "comes");
    goes.wait();
    tell("the kubelet back");

    let away = Away::begin(Duration::ZERO);
    let goes = Goes::delete(&space, "comes");
    space.start("comes-later", &claim_volume("d"), "sleep 1000");
    tell("the kubelet killed");
    away.end();
    comes(&space, "comes-later");
    goes.wait();
    tell("the kubelet back");
    assert_eq!(space.value("pod/reads-held", ".status.containerStatuses[0].restartCount"), "0");

    let drivers = lab().kubectl.run(["get", "csinode", &node(), "-o", "jsonpath={.spec.drivers[*].name}"]).unwrap();
    assert!(drivers.split(' ').any(|driver| driver == CSI_DRIVER), "{drivers}");
    assert!(calls("NodeGetInfo") > 0, "the kubelet that was started has not registered the driver");
    // It does so soon for all pods that it finds, and then every minute.
    wait_until("the kubelet has published again what pods had", || calls("NodePublishVolume") >= 3);
    assert_eq!(mounts(), before + 3 + 3, "one mount of each version and one for each pod");
    tell("what pods had published again");
    drop(space);
    wait_until("no mounts are left", || mounts() == before);
}

/// The kubelet is away until this ends, or is dropped.
struct Away;

impl Away {
    fn begin(grace: Duration) -> Self {
        daemon::stop(lab().cluster.paths(), "kubelet", grace).unwrap();
        Self
    }

    fn end(self) {}
}

impl Drop for Away {
    fn drop(&mut self) {
        // Starts what does not run.
        let back = Cluster::up(lab().cluster.paths());
        if !std::thread::panicking() {
            back.unwrap();
        }
    }
}

/// A pod that has to go.
struct Goes<'a> {
    space: &'a Space,
    pod: String,
    uid: String,
}

impl<'a> Goes<'a> {
    fn delete(space: &'a Space, pod: &str) -> Self {
        let pod = format!("pod/{pod}");
        let uid = space.value(&pod, ".metadata.uid");
        assert!(mount_table().contains(&uid), "nothing is mounted for {pod}");
        space.kubectl(&["delete", &pod, "--wait=false"]).unwrap();
        Self { space, pod, uid }
    }

    /// Waits until it has gone, with all that was made for it.
    fn wait(self) {
        wait_until("the pod has gone", || self.space.value(&self.pod, ".metadata.uid") != self.uid);
        let dir = lab().cluster.node().kubelet_dir().join("pods").join(&self.uid);
        wait_until("its directory has gone", || !dir.exists());
        assert!(!mount_table().contains(&self.uid), "a mount of {} is left", self.pod);
    }
}

fn comes(space: &Space, pod: &str) {
    space.running(pod);
    assert_eq!(space.exec(pod, "cat /data/a.txt").unwrap(), "after all");
}

/// Calls of the driver that have succeeded since the kubelet was started, by the kubelet's own metrics.
fn calls(method: &str) -> u64 {
    let metrics = lab().kubectl.run(["get", "--raw", &format!("/api/v1/nodes/{}/proxy/metrics", node())]).unwrap();
    let labels = format!("driver_name=\"{CSI_DRIVER}\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Node/{method}\"");
    let counts =
        metrics.lines().filter(|line| line.starts_with("csi_operations_seconds_count{") && line.contains(&labels));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn node() -> String {
    lab().cluster.node().name.clone()
}

/// Datasets' mounts on the node.
fn mounts() -> usize {
    let dir = lab().cluster.node().kubelet_dir();
    let ours = |line: &&str| line.contains(" - erofs ") && line.contains(&*dir.to_string_lossy());
    mount_table().lines().filter(ours).count()
}

fn mount_table() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}
