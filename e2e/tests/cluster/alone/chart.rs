//! Upgrading and uninstalling the chart on the running cluster.

use granary_e2e::exec;
use granary_e2e::images::GranaryImage;
use granary_e2e::install::{self, NAMESPACE, RELEASE};

use crate::lab::{Space, claim_volume, lab};

#[test]
#[ignore = "needs the cluster"]
fn an_upgrade_keeps_what_pods_read() {
    let space = Space::new("upgrade");
    space.put(&[("a.txt", "before"), ("b.txt", "after")]);
    space.dataset("d");
    space.ready("d");
    space.start("reads", &claim_volume("d"), "sleep 1000");
    space.running("reads");
    assert_eq!(space.exec("reads", "cat /data/a.txt").unwrap(), "before");
    let image = GranaryImage::build(lab().cluster.paths()).unwrap();
    install::helm_upgrade(&lab().cluster, &image, &["podAnnotations.test=upgraded"]).unwrap();
    assert_eq!(space.exec("reads", "cat /data/a.txt /data/b.txt").unwrap(), "beforeafter");
}

#[test]
#[ignore = "needs the cluster"]
fn an_uninstall_refuses_while_pods_use_volumes_and_leaves_nothing_stuck() {
    let space = Space::new("uninstall");
    space.put(&[("a.txt", "kept")]);
    space.dataset("d");
    space.ready("d");
    space.start("reads", &claim_volume("d"), "sleep 1000");
    space.running("reads");
    let refused = format!("{:#}", uninstall().unwrap_err());
    let said = lab()
        .kubectl
        .run(["logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=uninstall", "--tail=-1"])
        .unwrap_or_default();
    assert!(format!("{refused}{said}").contains(&format!("{}/reads", space.name)), "{refused}\n{said}");
    assert_eq!(space.exec("reads", "cat /data/a.txt").unwrap(), "kept");

    space.delete("pod/reads");
    uninstall().unwrap();
    assert_eq!(space.value("dataset/d", ".metadata.finalizers"), "");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - erofs "), "a mount is left");
    install::install(&lab().cluster).unwrap();
    space.ready("d");
    assert_eq!(space.run("again", "d", "cat /data/a.txt").unwrap(), "kept");
}

fn uninstall() -> anyhow::Result<String> {
    exec::output(lab().cluster.helm().args([
        "uninstall",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--timeout",
        "120s",
        "--wait",
    ]))
}
