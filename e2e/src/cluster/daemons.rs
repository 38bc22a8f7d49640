//! The cluster's processes: their command lines, in the order in which they start.

use std::time::Duration;

use super::layout::{ADDRESS, API_PORT, ETCD_PORT, Node, POD_SUBNET, SERVICE_SUBNET};
use super::pki::Pki;
use crate::daemon::Daemon;
use crate::paths::Paths;
use crate::tools::Tools;

/// What is stopped in which order, and how long each is given. The API server would drain for a minute.
pub(super) const STOP_ORDER: &[(&str, Duration)] = &[
    ("kubelet", Duration::from_secs(10)),
    ("kube-proxy", Duration::from_secs(5)),
    ("kube-scheduler", Duration::from_secs(5)),
    ("kube-controller-manager", Duration::from_secs(5)),
    ("kube-apiserver", Duration::from_secs(2)),
    ("etcd", Duration::from_secs(5)),
    ("containerd", Duration::from_secs(10)),
];

/// All of them, in the order in which they start.
pub(super) fn all(paths: &Paths, tools: &Tools, pki: &Pki, node: &Node) -> Vec<Daemon> {
    vec![
        etcd(paths, tools),
        apiserver(tools, pki),
        controller_manager(paths, tools, pki),
        scheduler(tools, pki),
        containerd(node, tools),
        kubelet(node, tools, pki),
        kube_proxy(node, tools),
    ]
}

/// The database. It need not survive a power cut, so it does not wait for the disk.
pub(super) fn etcd(paths: &Paths, tools: &Tools) -> Daemon {
    let (client, peer) = (format!("http://127.0.0.1:{ETCD_PORT}"), format!("http://127.0.0.1:{}", ETCD_PORT + 1));
    Daemon::new("etcd", tools.etcd()).args([
        "--name=granary-e2e".to_owned(),
        format!("--data-dir={}", paths.state.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=granary-e2e={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ])
}

/// The API server.
pub(super) fn apiserver(tools: &Tools, pki: &Pki) -> Daemon {
    let (cert, key) = (|party| pki.cert(party).display().to_string(), |party| pki.key(party).display().to_string());
    let ca = pki.ca().display().to_string();
    Daemon::new("kube-apiserver", tools.kubernetes("kube-apiserver")).args([
        format!("--etcd-servers=http://127.0.0.1:{ETCD_PORT}"),
        format!("--bind-address={ADDRESS}"),
        format!("--advertise-address={ADDRESS}"),
        format!("--secure-port={API_PORT}"),
        format!("--service-cluster-ip-range={SERVICE_SUBNET}"),
        format!("--client-ca-file={ca}"),
        format!("--tls-cert-file={}", cert("apiserver")),
        format!("--tls-private-key-file={}", key("apiserver")),
        format!("--kubelet-certificate-authority={ca}"),
        format!("--kubelet-client-certificate={}", cert("kubelet-client")),
        format!("--kubelet-client-key={}", key("kubelet-client")),
        // The node's name is in no DNS.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", pki.service_account_public_key().display()),
        format!("--service-account-signing-key-file={}", key("service-accounts")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
    ])
}

/// The controllers. Addresses of pods come from the CNI plugin, not from here.
pub(super) fn controller_manager(paths: &Paths, tools: &Tools, pki: &Pki) -> Daemon {
    let config = pki.kubeconfig("controller-manager").display().to_string();
    Daemon::new("kube-controller-manager", tools.kubernetes("kube-controller-manager")).args([
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cluster-cidr={POD_SUBNET}"),
        "--allocate-node-cidrs=false".to_owned(),
        format!("--flex-volume-plugin-dir={}", paths.state.join("flex-volumes").display()),
        "--use-service-account-credentials=true".to_owned(),
        format!("--root-ca-file={}", pki.ca().display()),
        format!("--service-account-private-key-file={}", pki.key("service-accounts").display()),
        "--leader-elect=false".to_owned(),
    ])
}

/// The scheduler.
pub(super) fn scheduler(tools: &Tools, pki: &Pki) -> Daemon {
    let config = pki.kubeconfig("scheduler").display().to_string();
    Daemon::new("kube-scheduler", tools.kubernetes("kube-scheduler")).args([
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--leader-elect=false".to_owned(),
    ])
}

/// The container runtime of a node.
pub(super) fn containerd(node: &Node, tools: &Tools) -> Daemon {
    Daemon::new("containerd", tools.containerd())
        .args(["--config".to_owned(), node.dir.join("containerd.toml").display().to_string()])
}

/// The kubelet of a node.
pub(super) fn kubelet(node: &Node, tools: &Tools, pki: &Pki) -> Daemon {
    Daemon::new("kubelet", tools.kubernetes("kubelet")).args([
        format!("--config={}", node.dir.join("kubelet.json").display()),
        format!("--kubeconfig={}", pki.kubeconfig(&node.name).display()),
        format!("--root-dir={}", node.kubelet_dir().display()),
        format!("--cert-dir={}", node.dir.join("kubelet-pki").display()),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={ADDRESS}"),
    ])
}

/// Services, on a node.
pub(super) fn kube_proxy(node: &Node, tools: &Tools) -> Daemon {
    Daemon::new("kube-proxy", tools.kubernetes("kube-proxy"))
        .args([format!("--config={}", node.dir.join("kube-proxy.json").display())])
}
