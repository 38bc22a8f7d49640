//! The bridge, and the kernel settings that Kubernetes changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::layout::{ADDRESS, BRIDGE, PREFIX};
use crate::exec;
use crate::paths::{Paths, write_atomically};

/// Settings that the cluster's parts change; they are put back at the end.
const SETTINGS: &[&str] = &[
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
];

/// Makes the bridge and lets the machine forward between pods and Services.
pub(super) fn up(paths: &Paths) -> Result<()> {
    save_settings(paths)?;
    let links = exec::output(ip().args(["-o", "-4", "address", "show"]))?;
    let taken = links.lines().find(|line| line.contains(&format!(" {ADDRESS}/")));
    if let Some(line) = taken {
        ensure!(
            line.split_whitespace().nth(1) == Some(BRIDGE),
            "another network interface of this machine has the cluster's address {ADDRESS}: {}",
            line.trim()
        );
    }
    if !Path::new("/sys/class/net").join(BRIDGE).exists() {
        exec::output(ip().args(["link", "add", BRIDGE, "type", "bridge"]))?;
    }
    if taken.is_none() {
        exec::output(ip().args(["address", "add", &format!("{ADDRESS}/{PREFIX}"), "dev", BRIDGE]))?;
    }
    exec::output(ip().args(["link", "set", BRIDGE, "up"]))?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("switching IP forwarding on")
}

/// Removes the bridge, with the pods' interfaces on it, and kube-proxy's rules; puts the settings back.
pub(super) fn down(paths: &Paths) -> Result<()> {
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        for port in
            std::fs::read_dir(Path::new("/sys/class/net").join(BRIDGE).join("brif")).into_iter().flatten().flatten()
        {
            // A pod's interface goes by itself when the last process of the pod has gone, so it may be gone already.
            exec::raw_output(ip().args(["link", "delete"]).arg(port.file_name()))?;
        }
        exec::output(ip().args(["link", "delete", BRIDGE]))?;
    }
    for family in ["ip", "ip6"] {
        // Fails when kube-proxy never came so far as to make the table.
        exec::raw_output(Command::new("nft").args(["delete", "table", family, "kube-proxy"]))?;
    }
    restore_settings(paths)
}

fn ip() -> Command {
    Command::new("ip")
}

fn saved(paths: &Paths) -> PathBuf {
    paths.state.join("kernel-settings.json")
}

fn save_settings(paths: &Paths) -> Result<()> {
    if saved(paths).exists() {
        return Ok(());
    }
    let read = |name: &&str| Some(((*name).to_owned(), std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?));
    let values: BTreeMap<String, String> = SETTINGS.iter().filter_map(read).collect();
    write_atomically(&saved(paths), serde_json::to_vec_pretty(&values)?)
}

fn restore_settings(paths: &Paths) -> Result<()> {
    let Ok(text) = std::fs::read(saved(paths)) else {
        return Ok(());
    };
    let values: BTreeMap<String, String> =
        serde_json::from_slice(&text).context("reading the saved kernel settings")?;
    for (name, value) in values {
        let path = format!("/proc/sys/{name}");
        let now = std::fs::read_to_string(&path).unwrap_or_default();
        if now != value {
            std::fs::write(&path, value.trim()).with_context(|| format!("putting {name} back to {}", value.trim()))?;
        }
    }
    Ok(())
}
