//! A restarted node process takes over what its predecessor mounted.

use crate::lab::{PATIENCE, Space, claim_volume, lab};
use granary_e2e::install::NAMESPACE;

#[test]
#[ignore = "needs the cluster"]
fn a_restarted_node_adopts_its_mounts_and_serves_new_pods() {
    let space = Space::new("restart");
    space.put(&[("a.txt", "cached"), ("b.txt", "not yet read"), ("c.txt", "for the next")]);
    space.dataset("d");
    space.ready("d");
    space.start("old", &claim_volume("d"), "sleep 1000");
    space.running("old");
    assert_eq!(space.exec("old", "cat /data/a.txt").unwrap(), "cached");
    let loops = loops();
    lab()
        .kubectl
        .run(["delete", "pod", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=node", "--grace-period=1"])
        .unwrap();
    lab().kubectl.rollout(NAMESPACE, "daemonset/granary-node", PATIENCE).unwrap();
    // The keys come again with the kubelet's next republish, about a minute later.
    assert_eq!(space.exec("old", "cat /data/a.txt /data/b.txt").unwrap(), "cachednot yet read");
    assert_eq!(
        space.run("new", "d", "cat /data/a.txt /data/b.txt /data/c.txt").unwrap(),
        "cachednot yet readfor the next"
    );
    assert_eq!(loops, self::loops(), "a restart must not leak loop devices");
}

#[test]
#[ignore = "needs the cluster"]
fn the_last_pod_takes_mounts_and_loops_with_it() {
    let before = (loops(), mounts());
    let space = Space::new("leftovers");
    space.put(&[("a.txt", "x")]);
    space.dataset("d");
    space.ready("d");
    for pod in ["one", "two"] {
        space.start(pod, &claim_volume("d"), "sleep 1000");
    }
    for pod in ["one", "two"] {
        space.running(pod);
        assert_eq!(space.exec(pod, "cat /data/a.txt").unwrap(), "x");
    }
    assert_eq!(mounts(), before.1 + 3, "one mount of the version and one for each pod");
    space.delete("pod/one");
    assert_eq!(space.exec("two", "cat /data/a.txt").unwrap(), "x");
    space.delete("pod/two");
    let begun = std::time::Instant::now();
    while (loops(), mounts()) != before {
        assert!(begun.elapsed() < PATIENCE, "left: {:?}, before: {before:?}", (loops(), mounts()));
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}

fn loops() -> usize {
    let devices = std::fs::read_dir("/sys/block").unwrap().filter_map(Result::ok);
    devices.filter(|d| d.path().join("loop/backing_file").exists()).count()
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(" - erofs ")).count()
}
