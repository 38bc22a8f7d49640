//! A node: container runtime, kubelet, kube-proxy, and what they need of the machine.

use anyhow::Result;

use super::layout::Node;
use super::pki::Pki;
use super::{PATIENCE, cgroups, config, daemons, loops, mounts, outside};
use crate::kube::Kubectl;
use crate::paths::{Paths, write_atomically};
use crate::tools::Tools;
use crate::{daemon, exec};

/// Starts the node's processes; the kubelet may need some more time.
pub(super) fn start(paths: &Paths, node: &Node, tools: &Tools, pki: &Pki) -> Result<()> {
    for (path, text) in config::files(node, tools, pki)? {
        write_atomically(&path, text)?;
    }
    cgroups::up(node)?;
    mounts::make_shared(&node.kubelet_dir())?;
    // The cache root is shared too: a node plugin keeps private mounts there that must outlive its container.
    mounts::make_shared(&node.cache_root())?;
    let runtime = daemons::containerd(node, tools);
    runtime.start(paths)?;
    runtime.wait(paths, PATIENCE, || {
        let mut version = std::process::Command::new(tools.ctr());
        exec::output(version.arg("--address").arg(node.containerd_socket()).arg("version")).map(|_| true)
    })?;
    daemons::kubelet(node, tools, pki).start(paths)?;
    daemons::kube_proxy(node, tools).start(paths)?;
    Ok(())
}

/// Waits until the node takes pods.
pub(super) fn wait(paths: &Paths, node: &Node, tools: &Tools, pki: &Pki, kubectl: &Kubectl) -> Result<()> {
    daemons::kubelet(node, tools, pki).wait(paths, PATIENCE, || Ok(is_ready(kubectl, node)))
}

/// Whether the node is Ready.
pub(super) fn is_ready(kubectl: &Kubectl, node: &Node) -> bool {
    let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    kubectl.run(["get", "node", &node.name, "--output", condition]).is_ok_and(|status| status == "True")
}

/// Kills the containers and removes mounts, loop devices, cgroups and what was written outside the state directory.
pub(super) fn clean(paths: &Paths, node: &Node) -> Result<()> {
    // Asked first: with the containers go the paths by which some of these are known.
    let loops = loops::of(&paths.state)?;
    let shim_sockets = outside::shim_sockets(&node.dir);
    cgroups::down(node)?;
    daemon::kill_strays(paths)?;
    mounts::clean_below(&paths.state)?;
    loops::detach(&loops)?;
    outside::clean(&node.dir, &shim_sockets)
}
