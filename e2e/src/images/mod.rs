//! Container images for the cluster: written as OCI layouts, imported into containerd, never pulled.

mod builtin;
mod granary;
mod oci;
mod probe;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cluster::Node;
use crate::exec;
use crate::paths::Paths;
use crate::tools::Tools;

pub use builtin::static_image;
pub use granary::{GranaryImage, REFERENCE as GRANARY};
pub use oci::{Config, Entry, Image, Layer};
pub use probe::{REFERENCE as PROBE, probe};

/// What holds a pod's namespaces.
pub const PAUSE: &str = "granary.dev/e2e/pause:1";
/// A shell with the usual small programs, for test pods.
pub const BUSYBOX: &str = "granary.dev/e2e/busybox:1";
/// The cluster's DNS.
pub const COREDNS: &str = "granary.dev/e2e/coredns:1";

/// Imports the images that every cluster has, unless they are there.
pub(crate) fn load_cluster_images(paths: &Paths, tools: &Tools, node: &Node) -> Result<()> {
    let (ctr, socket) = (tools.ctr(), node.containerd_socket());
    let known = exec::output(containerd(&ctr, &socket).args(["images", "list", "--quiet"]))?;
    for image in builtin::all(paths, tools)? {
        if !known.lines().any(|name| name == image.reference) {
            let tar = paths.state.join("images").join(format!("{}.tar", image.file_name()));
            image.write(&tar)?;
            import(&ctr, &socket, &tar)?;
        }
    }
    Ok(())
}

/// Imports an OCI layout tar into the namespace that the kubelet uses.
pub(crate) fn import(ctr: &Path, socket: &Path, tar: &Path) -> Result<()> {
    exec::output(containerd(ctr, socket).args(["images", "import"]).arg(tar))
        .map(drop)
        .with_context(|| format!("importing {} into containerd", tar.display()))
}

fn containerd(ctr: &Path, socket: &Path) -> Command {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io"]);
    command
}
