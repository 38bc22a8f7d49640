//! Names, addresses and directories of the cluster, in one place.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::paths::Paths;

/// The bridge that pods and the node share. A machine need not have another usable address.
pub const BRIDGE: &str = "granary0";
/// The node's address, which is the bridge's.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Length of the pod network's prefix.
pub const PREFIX: u8 = 16;
/// The pod network of the first node.
pub const POD_SUBNET: &str = "10.88.0.0/16";
/// Addresses of Services.
pub const SERVICE_SUBNET: &str = "10.96.0.0/16";
/// The API server's address as a Service.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The address of the cluster's DNS.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Where the API server listens.
pub const API_PORT: u16 = 6443;
/// Where etcd listens, on loopback.
pub const ETCD_PORT: u16 = 12379;

/// A node: its name and its directories.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name of the Node object.
    pub name: String,
    /// Everything of this node.
    pub dir: PathBuf,
}

impl Node {
    /// The first node, which runs in the machine's own network namespace.
    pub fn first(paths: &Paths) -> Self {
        Self { name: "node1".into(), dir: paths.state.join("node1") }
    }

    /// The kubelet's root directory: Helm value `kubeletDir`.
    pub fn kubelet_dir(&self) -> PathBuf {
        self.dir.join("kubelet")
    }

    /// A directory for caches on the node, which `cluster down` cleans up.
    pub fn cache_root(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// The cgroup, relative to each hierarchy, that all pods of the node lie below.
    pub fn cgroup(&self) -> String {
        format!("granary-e2e-{}", self.name)
    }
}

/// The URL of the API server.
pub fn api_url() -> String {
    format!("https://{ADDRESS}:{API_PORT}")
}
