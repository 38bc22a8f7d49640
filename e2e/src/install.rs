//! Installing Granary into the cluster by its own chart, as a user does.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::images::GranaryImage;
use crate::paths::checkout;
use crate::{exec, progress};

/// The Helm release and its namespace.
pub const RELEASE: &str = "granary";
/// The namespace of operator and nodes.
pub const NAMESPACE: &str = "granary-system";

/// Builds the image, loads it and installs or upgrades the chart; returns when operator and node are ready.
pub fn install(cluster: &Cluster) -> Result<GranaryImage> {
    let image = GranaryImage::build(cluster.paths())?;
    cluster.load_image(&image.tar)?;
    let step = progress::step("helm upgrade --install granary charts/granary", Some("20 s"));
    helm_upgrade(cluster, &image, &[])?;
    step.done();
    Ok(image)
}

/// `helm upgrade --install` with the values of this cluster and further `--set` values.
pub fn helm_upgrade(cluster: &Cluster, image: &GranaryImage, set: &[&str]) -> Result<()> {
    let mut helm = cluster.helm();
    helm.args(["upgrade", "--install", RELEASE]).arg(checkout().join("charts/granary"));
    helm.args(["--namespace", NAMESPACE, "--create-namespace"]);
    cluster_values(&mut helm, cluster);
    // The tag stays the same when a developer rebuilds; the digest makes the pods roll.
    helm.arg("--set-string").arg(format!("podAnnotations.granary\\.dev/image={}", image.digest));
    for value in set {
        helm.args(["--set-string", value]);
    }
    exec::output(&mut helm)?;
    let kubectl = cluster.kubectl();
    kubectl.rollout(NAMESPACE, "deployment/granary-operator", Duration::from_secs(180))?;
    kubectl.rollout(NAMESPACE, "daemonset/granary-node", Duration::from_secs(180))
}

/// Adds the values that this cluster needs to a `helm` command.
pub fn cluster_values(helm: &mut Command, cluster: &Cluster) {
    helm.arg("--values").arg(checkout().join("e2e/manifests/values.yaml"));
    helm.arg("--set-string").arg(format!("kubeletDir={}", cluster.node().kubelet_dir().display()));
}
