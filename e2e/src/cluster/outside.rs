//! What containerd and the kubelet write outside of the directories that they are given.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const SHIM_SOCKETS: &str = "/run/containerd/s";
const CNI_RESULTS: &str = "/var/lib/cni/results";
const CONTAINER_LOGS: &str = "/var/log/containers";
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";

/// Sockets of the shims of the node in `dir`; a killed shim leaves its own. Asked before the shims' records go.
pub(super) fn shim_sockets(dir: &Path) -> Vec<PathBuf> {
    let tasks = dir.join("containerd-state/io.containerd.runtime.v2.task/k8s.io");
    let address = |entry: fs::DirEntry| -> Option<PathBuf> {
        let bootstrap = fs::read(entry.path().join("bootstrap.json")).ok()?;
        let bootstrap: serde_json::Value = serde_json::from_slice(&bootstrap).ok()?;
        Some(bootstrap["address"].as_str()?.strip_prefix("unix://")?.into())
    };
    fs::read_dir(tasks).into_iter().flatten().flatten().filter_map(address).collect()
}

/// Removes what names the node's directory, and then the directories that are empty. Others' files stay.
pub(super) fn clean(dir: &Path, shim_sockets: &[PathBuf]) -> Result<()> {
    let names_us = |path: &Path| fs::read(path).is_ok_and(|bytes| contains(&bytes, dir.as_os_str().as_encoded_bytes()));
    let links_to_us = |path: &Path| fs::read_link(path).is_ok_and(|target| target.starts_with(dir));
    let nobody_listens = |path: &Path| UnixStream::connect(path).is_err();
    remove_files(CNI_RESULTS, names_us)?;
    remove_files(CONTAINER_LOGS, links_to_us)?;
    remove_files(DEVICE_PLUGINS, |path| path.ends_with("kubelet.sock") && nobody_listens(path))?;
    remove_files(SHIM_SOCKETS, |path| shim_sockets.iter().any(|socket| socket == path))?;
    for empty in [
        CNI_RESULTS,
        "/var/lib/cni",
        CONTAINER_LOGS,
        DEVICE_PLUGINS,
        "/var/lib/kubelet",
        SHIM_SOCKETS,
        "/run/containerd",
    ] {
        // Fails when somebody else uses it or it was never made: then it is not ours to remove.
        let _ = fs::remove_dir(empty);
    }
    Ok(())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn remove_files(dir: &str, is_ours: impl Fn(&Path) -> bool) -> Result<()> {
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| is_ours(path))
    {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
