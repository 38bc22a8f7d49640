//! A node: container runtime, kubelet, kube-proxy, and what they need of the machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::layout::Node;
use super::pki::Pki;
use super::{PATIENCE, cgroups, config, daemons, mounts};
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
    let shim_sockets = shim_sockets(&node.dir);
    cgroups::down(node)?;
    daemon::kill_strays(paths)?;
    mounts::clean_below(&paths.state)?;
    for socket in shim_sockets {
        remove_file(Path::new(&socket))?;
    }
    // Two places that cannot be configured: links to container logs, and CNI's results, which have our network's name.
    remove_entries("/var/log/containers", |path| {
        fs::read_link(path).is_ok_and(|target| target.starts_with(&node.dir))
    })?;
    let prefix = format!("{}-", node.cgroup());
    remove_entries("/var/lib/cni/results", |path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    })
}

/// Sockets of containerd's shims; they lie in `/run/containerd`, and a killed shim leaves its own.
fn shim_sockets(dir: &Path) -> Vec<String> {
    let tasks = dir.join("containerd-state/io.containerd.runtime.v2.task/k8s.io");
    let Ok(entries) = fs::read_dir(tasks) else {
        return Vec::new();
    };
    let address = |entry: fs::DirEntry| -> Option<String> {
        let bootstrap: serde_json::Value =
            serde_json::from_slice(&fs::read(entry.path().join("bootstrap.json")).ok()?).ok()?;
        Some(bootstrap["address"].as_str()?.strip_prefix("unix://")?.to_owned())
    };
    entries.flatten().filter_map(address).collect()
}

fn remove_entries(dir: &str, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_ours(path)) {
        remove_file(&path)?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
