//! Configuration files of the cluster's parts. Kubernetes reads YAML, of which JSON is a part, so they are plain values.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::layout::{ADDRESS, BRIDGE, DNS_SERVICE, Node, POD_SUBNET};
use super::pki::Pki;
use crate::images::PAUSE;
use crate::tools::Tools;

/// The files of a node, by path.
pub(super) fn files(node: &Node, tools: &Tools, pki: &Pki) -> Result<Vec<(PathBuf, String)>> {
    let json =
        |name: &str, value: Value| -> Result<_> { Ok((node.dir.join(name), serde_json::to_string_pretty(&value)?)) };
    Ok(vec![
        (node.dir.join("containerd.toml"), containerd(node, tools)),
        json("cni/10-granary.conflist", cni(node))?,
        json("kubelet.json", kubelet(node, pki))?,
        json("kube-proxy.json", kube_proxy(node, pki))?,
    ])
}

/// containerd: its own root, state and socket, so that it never meets another containerd of the machine.
fn containerd(node: &Node, tools: &Tools) -> String {
    let dir = node.dir.display();
    let quote = |path: &Path| format!("'{}'", path.display());
    format!(
        r#"version = 3
root = '{dir}/containerd'
state = '{dir}/containerd-state'
# Both would write outside of the directories above.
disabled_plugins = ['io.containerd.internal.v1.opt', 'io.containerd.nri.v1.nri']

[grpc]
address = {socket}

[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{cni}]
conf_dir = '{dir}/cni'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
runtime_path = {shim}

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = {runc}
Root = '{dir}/runc'
SystemdCgroup = false
"#,
        socket = quote(&node.containerd_socket()),
        cni = quote(&tools.cni),
        shim = quote(&tools.shim()),
        runc = quote(&tools.runc()),
    )
}

/// The pod network: one bridge with the node on it, addresses from a file. The first 256 are left for the node and servers.
fn cni(node: &Node) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": node.cgroup(),
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "hairpinMode": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": node.dir.join("addresses"),
                "ranges": [[{"subnet": POD_SUBNET, "rangeStart": "10.88.1.0", "gateway": ADDRESS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

/// The kubelet.
fn kubelet(node: &Node, pki: &Pki) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.ca()},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.cert(&node.name),
        "tlsPrivateKeyFile": pki.key(&node.name),
        "containerRuntimeEndpoint": format!("unix://{}", node.containerd_socket().display()),
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "podLogsDir": node.dir.join("pod-logs"),
        "volumePluginDir": node.dir.join("volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.cgroup()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        // A developer's disk is often fuller than a server's; evicting test pods for that would help nobody.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Changes of Secrets and volumes show sooner, so that tests are quick.
        "syncFrequency": "10s",
        "registerNode": true,
    })
}

/// kube-proxy, by nftables.
fn kube_proxy(node: &Node, pki: &Pki) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node.name,
        "clusterCIDR": POD_SUBNET,
        "clientConnection": {"kubeconfig": pki.kubeconfig("kube-proxy")},
        "conntrack": {"maxPerCore": 0},
        // Pods of one bridge would answer each other directly, around the translation, where bridges do not pass nftables.
        "nftables": {"masqueradeAll": true},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    fn node() -> Node {
        Node::first(&Paths { cache: "/c".into(), state: "/state".into() })
    }

    #[test]
    fn containerd_touches_nothing_outside_the_state_directory() {
        let tools = Tools::locate(&Paths { cache: "/c".into(), state: "/state".into() });
        let text = containerd(&node(), &tools);
        for line in text.lines().filter(|line| line.contains("'/")) {
            assert!(line.contains("'/state/") || line.contains("'/c/tools/"), "{line}");
        }
        assert!(text.contains("address = '/state/node1/containerd.sock'") && text.contains(PAUSE));
    }

    #[test]
    fn kubelet_and_network_agree_on_the_address() {
        let kubelet = kubelet(&node(), &Pki::at("/pki".into()));
        let gateway = &cni(&node())["plugins"][0]["ipam"]["ranges"][0][0]["gateway"];
        assert_eq!(&kubelet["address"], gateway);
        assert_eq!(kubelet["cgroupRoot"], "/granary-e2e-node1");
        assert_eq!(kubelet["tlsCertFile"], "/pki/node1.crt");
    }
}
