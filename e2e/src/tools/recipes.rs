//! Which tools, in which versions, built how. Changing anything here changes the key and so builds anew.

/// A Go program, or several of one module, built from source.
#[derive(Debug, Clone, Copy)]
pub struct GoTool {
    /// Name of the cache directory.
    pub name: &'static str,
    /// The Go module.
    pub module: &'static str,
    /// Its version, as the module has it.
    pub version: &'static str,
    /// Package paths below the module, and the program that each becomes.
    pub programs: &'static [(&'static str, &'static str)],
    /// Whether it needs a C compiler.
    pub cgo: bool,
    /// Go build tags.
    pub tags: &'static str,
    /// Linker flags besides `-s -w`.
    pub ldflags: &'static str,
    /// Modules that the module replaces by directories of its own: their published version is this.
    pub staging: Option<&'static str>,
    /// Time that it took on two cores, from nothing.
    pub usually: &'static str,
}

const PLAIN: GoTool = GoTool {
    name: "",
    module: "",
    version: "",
    programs: &[],
    cgo: false,
    tags: "",
    ldflags: "",
    staging: None,
    usually: "",
};

/// API server, controller manager, scheduler, kubelet, kube-proxy and kubectl.
pub const KUBERNETES: GoTool = GoTool {
    name: "kubernetes",
    module: "k8s.io/kubernetes",
    version: "v1.36.3",
    programs: &[
        ("cmd/kube-apiserver", "kube-apiserver"),
        ("cmd/kube-controller-manager", "kube-controller-manager"),
        ("cmd/kube-proxy", "kube-proxy"),
        ("cmd/kube-scheduler", "kube-scheduler"),
        ("cmd/kubectl", "kubectl"),
        ("cmd/kubelet", "kubelet"),
    ],
    // Without a version, the kubelet reports one that fails the skew checks of clients.
    ldflags: "-X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 \
              -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/component-base/version.gitTreeState=clean",
    staging: Some("v0.36.3"),
    usually: "6 to 9 min",
    ..PLAIN
};

/// containerd with its shim and client.
pub const CONTAINERD: GoTool = GoTool {
    name: "containerd",
    module: "github.com/containerd/containerd/v2",
    version: "v2.4.2",
    programs: &[
        ("cmd/containerd", "containerd"),
        ("cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
        ("cmd/ctr", "ctr"),
    ],
    usually: "75 s",
    ..PLAIN
};

/// The OCI runtime. Without seccomp every pod would fail.
pub const RUNC: GoTool = GoTool {
    name: "runc",
    module: "github.com/opencontainers/runc",
    version: "v1.5.2",
    programs: &[("", "runc")],
    cgo: true,
    tags: "seccomp",
    usually: "15 s",
    ..PLAIN
};

/// The CNI plugins of a pod network on one bridge.
pub const CNI: GoTool = GoTool {
    name: "cni-plugins",
    module: "github.com/containernetworking/plugins",
    version: "v1.9.1",
    programs: &[
        ("plugins/main/bridge", "bridge"),
        ("plugins/main/loopback", "loopback"),
        ("plugins/ipam/host-local", "host-local"),
    ],
    usually: "10 s",
    ..PLAIN
};

/// Kubernetes' database.
pub const ETCD: GoTool = GoTool {
    name: "etcd",
    module: "go.etcd.io/etcd/server/v3",
    version: "v3.7.3",
    programs: &[("", "etcd")],
    usually: "30 s",
    ..PLAIN
};

/// Names of Services, for pods.
pub const COREDNS: GoTool = GoTool {
    name: "coredns",
    module: "github.com/coredns/coredns",
    version: "v1.15.0",
    programs: &[("", "coredns")],
    usually: "2 to 3 min",
    ..PLAIN
};

/// What users install charts with.
pub const HELM: GoTool = GoTool {
    name: "helm",
    module: "helm.sh/helm/v4",
    version: "v4.3.1",
    programs: &[("cmd/helm", "helm")],
    usually: "2 min",
    ..PLAIN
};

/// The conformance tests for CSI drivers.
pub const CSI_SANITY: GoTool = GoTool {
    name: "csi-sanity",
    module: "github.com/kubernetes-csi/csi-test/v5",
    version: "v5.6.0",
    programs: &[("cmd/csi-sanity", "csi-sanity")],
    usually: "20 s",
    ..PLAIN
};

/// A peer of the benchmark.
pub const GOOFYS: GoTool = GoTool {
    name: "goofys",
    module: "github.com/kahing/goofys",
    version: "v0.24.0",
    programs: &[("", "goofys")],
    usually: "2 min",
    ..PLAIN
};

/// That version of goofys has no `go.mod`; it is built with what was current then, and with its author's variant of the FUSE library.
pub const GOOFYS_NEEDS: &str = "
require (
\tgithub.com/Azure/azure-sdk-for-go v32.1.0+incompatible
\tgithub.com/Azure/azure-storage-blob-go v0.8.0
\tgithub.com/satori/go.uuid v1.2.1-0.20181028125025-b2ce2384e17b
\tgithub.com/sevlyar/go-daemon v0.1.6
)

replace github.com/jacobsa/fuse => github.com/kahing/fusego v0.0.0-20200327063725-ca77844c7bcc
";
