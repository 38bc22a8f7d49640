//! What a machine with only base toolchains lacks: Debian packages, Kubernetes and its runtime built from their Go
//! modules, and programs that come in Python wheels. Everything is built once into a cache outside the checkout, keyed by
//! versions and flags, so a second call takes no time.

pub mod apt;
pub mod go;
pub mod python;
pub mod recipes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths::{Paths, write_atomically};
use crate::progress;

/// The tools that a cluster is made of, each named by the absolute path of its program.
#[derive(Debug, Clone)]
pub struct Tools {
    kubernetes: PathBuf,
    containerd: PathBuf,
    runc: PathBuf,
    /// The directory of the CNI plugins.
    pub cni: PathBuf,
    etcd: PathBuf,
    coredns: PathBuf,
    helm: PathBuf,
}

impl Tools {
    /// Installs and builds whatever is missing.
    pub fn ensure(paths: &Paths) -> Result<Self> {
        let _one_at_a_time = lock(&paths.cache.join("tools.lock"), "tools")?;
        apt::ensure(apt::CLUSTER)?;
        Ok(Self {
            runc: go::ensure(paths, &recipes::RUNC)?,
            cni: go::ensure(paths, &recipes::CNI)?,
            etcd: go::ensure(paths, &recipes::ETCD)?,
            containerd: go::ensure(paths, &recipes::CONTAINERD)?,
            kubernetes: go::ensure(paths, &recipes::KUBERNETES)?,
            coredns: go::ensure(paths, &recipes::COREDNS)?,
            helm: go::ensure(paths, &recipes::HELM)?,
        })
    }

    /// Where the tools lie in the cache, whether or not they have been built.
    pub fn locate(paths: &Paths) -> Self {
        let dir = |tool| go::bin_dir(paths, tool);
        Self {
            runc: dir(&recipes::RUNC),
            cni: dir(&recipes::CNI),
            etcd: dir(&recipes::ETCD),
            containerd: dir(&recipes::CONTAINERD),
            kubernetes: dir(&recipes::KUBERNETES),
            coredns: dir(&recipes::COREDNS),
            helm: dir(&recipes::HELM),
        }
    }

    /// A command of Kubernetes: `kube-apiserver`, `kubelet`, `kubectl`, ...
    pub fn kubernetes(&self, command: &str) -> PathBuf {
        self.kubernetes.join(command)
    }

    /// `kubectl`.
    pub fn kubectl(&self) -> PathBuf {
        self.kubernetes("kubectl")
    }

    /// `helm`.
    pub fn helm(&self) -> PathBuf {
        self.helm.join("helm")
    }

    /// `containerd`, whose directory also has its shim.
    pub fn containerd(&self) -> PathBuf {
        self.containerd.join("containerd")
    }

    /// `containerd-shim-runc-v2`.
    pub fn shim(&self) -> PathBuf {
        self.containerd.join("containerd-shim-runc-v2")
    }

    /// `ctr`, containerd's client.
    pub fn ctr(&self) -> PathBuf {
        self.containerd.join("ctr")
    }

    /// `runc`.
    pub fn runc(&self) -> PathBuf {
        self.runc.join("runc")
    }

    /// `etcd`.
    pub fn etcd(&self) -> PathBuf {
        self.etcd.join("etcd")
    }

    /// `coredns`.
    pub fn coredns(&self) -> PathBuf {
        self.coredns.join("coredns")
    }
}

/// The real `csi-sanity`, built when first asked for.
pub fn csi_sanity(paths: &Paths) -> Result<PathBuf> {
    let _one_at_a_time = lock(&paths.cache.join("tools.lock"), "tools")?;
    Ok(go::ensure(paths, &recipes::CSI_SANITY)?.join("csi-sanity"))
}

/// Holds a file lock, waiting for whoever has it; released when dropped or when the process dies.
pub fn lock(path: &Path, what: &str) -> Result<std::fs::File> {
    if !path.exists() {
        write_atomically(path, "")?;
    }
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::note(format!("waiting for another run to finish with the {what} ({} is locked)", path.display()));
        file.lock().with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}
