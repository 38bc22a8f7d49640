//! The conformance tests of CSI, against the driver that runs in the cluster. They know nothing of pods, so a proxy before the
//! driver's socket adds what a kubelet adds.

mod proxy;

use std::collections::HashMap;
use std::process::Command;

use granary_e2e::exec;
use granary_e2e::s3::READER;
use granary_e2e::tools::{go, recipes};

use crate::lab::{Space, lab};
use proxy::Proxy;

/// The controller's own tests would test the proxy's stand-in for the provisioner; Granary has no controller service.
const SKIPPED: &str = "Controller Service|GroupController|Snapshot";

#[test]
#[ignore = "needs the cluster"]
fn csi_sanity_passes() {
    let paths = lab().cluster.paths();
    let program = go::ensure(paths, &recipes::CSI_SANITY).unwrap().join("csi-sanity");
    let space = Space::new("sanity");
    space.put(&[("a.txt", "x")]);
    space.dataset("d");
    space.ready("d");
    let attributes = HashMap::from([
        ("dataset".to_owned(), "d".to_owned()),
        ("namespace".to_owned(), space.name.clone()),
        ("uid".to_owned(), space.value("dataset/d", ".metadata.uid")),
    ]);
    let pod = HashMap::from([
        ("csi.storage.k8s.io/pod.name".to_owned(), "sanity".to_owned()),
        ("csi.storage.k8s.io/pod.namespace".to_owned(), space.name.clone()),
        ("csi.storage.k8s.io/pod.uid".to_owned(), "00000000-0000-0000-0000-000000000000".to_owned()),
        ("csi.storage.k8s.io/serviceAccount.name".to_owned(), "default".to_owned()),
        ("csi.storage.k8s.io/ephemeral".to_owned(), "false".to_owned()),
    ]);
    let secrets = HashMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), READER.access_key.to_owned()),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), READER.secret_key.to_owned()),
    ]);
    let plugin = lab().cluster.node().kubelet_dir().join("plugins/csi.granary.dev");
    // Below a directory that the driver's container sees, since the tests name target paths there.
    let work = plugin.join("sanity");
    std::fs::create_dir_all(&work).unwrap();
    let socket = work.join("proxy.sock");
    let proxy = Proxy { driver: plugin.join("csi.sock"), attributes, pod, secrets };
    let _serving = lab().wait(proxy.serve(&socket));
    let said = exec::output(
        Command::new(program)
            .arg(format!("--csi.endpoint=unix://{}", socket.display()))
            .arg(format!("--csi.mountdir={}", work.join("mount").display()))
            .arg(format!("--csi.stagingdir={}", work.join("staging").display()))
            .args(["-ginkgo.skip", SKIPPED, "-ginkgo.no-color"]),
    );
    std::fs::remove_dir_all(&work).unwrap();
    let said = said.unwrap();
    println!("{said}");
    let ran: u32 = said.split("Ran ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap();
    assert!(ran >= 13, "only {ran} of its tests ran");
}
