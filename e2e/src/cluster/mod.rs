//! A real Kubernetes on this machine: its processes, network and directories.
//!
//! [`Cluster::up`] makes true whatever is not yet true, so it starts a cluster, mends one that lost a process, and does
//! nothing to one that is well. [`Cluster::down`] removes all of it, also what a killed run or a crash left.

mod addons;
mod cgroups;
mod config;
mod daemons;
pub mod layout;
mod loops;
mod mounts;
mod network;
mod node;
mod outside;
pub mod pki;
mod remains;
mod stamp;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::kube::Kubectl;
use crate::paths::Paths;
use crate::progress::{self, human};
use crate::tools::{Tools, lock};
use crate::{daemon, images, s3};

pub use layout::Node;
pub use remains::Remains;

/// How long a part may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The cluster of one state directory.
#[derive(Debug, Clone)]
pub struct Cluster {
    paths: Paths,
    tools: Tools,
    pki: pki::Pki,
    node: Node,
}

impl Cluster {
    /// Starts whatever does not run, and waits until pods and Services can be used.
    pub fn up(paths: &Paths) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the cluster needs root: it makes mounts, cgroups and network devices"
        );
        let begun = Instant::now();
        let tools = Tools::ensure(paths)?;
        let _one_at_a_time = lock(&lock_file(paths), "cluster")?;
        let cluster = Self::at(paths, tools);
        let stamp = stamp::Stamp::current(paths, &cluster.tools, &cluster.pki, &cluster.node)?;
        if paths.state.exists() && stamp::Stamp::read(paths).is_none_or(|running| running != stamp) {
            progress::note("what is left here is of another boot or version, or was being removed: removing it");
            cluster.remove()?;
        }
        if cluster.is_up() {
            progress::note(format!("the cluster is up; its state is in {}", paths.state.display()));
            return Ok(cluster);
        }
        stamp.write(paths)?;
        cluster.start()?;
        progress::note(format!(
            "the cluster is up after {}; its state is in {}",
            human(begun.elapsed()),
            paths.state.display()
        ));
        Ok(cluster)
    }

    /// The cluster that runs, or an error that says how to start it.
    pub fn running(paths: &Paths) -> Result<Self> {
        let cluster = Self::at(paths, Tools::locate(paths));
        ensure!(
            cluster.is_up(),
            "no cluster runs in {}, or not all of it; `cluster up` starts it ({})",
            paths.state.display(),
            cluster.down_parts().join(", ")
        );
        Ok(cluster)
    }

    /// Stops and removes everything. Nothing being there is fine.
    pub fn down(paths: &Paths) -> Result<()> {
        let _one_at_a_time = lock(&lock_file(paths), "cluster")?;
        Self::at(paths, Tools::locate(paths)).remove()
    }

    /// One line for each part, saying whether it runs.
    pub fn status(paths: &Paths) -> Vec<String> {
        let part = |name: &str| match daemon::running(paths, name) {
            Some(pid) => format!("{name}: runs (pid {pid}, log {})", paths.log(name).display()),
            None => format!("{name}: does not run"),
        };
        let names = daemons::STOP_ORDER.iter().rev().map(|(name, _)| *name).chain([s3::NAME]);
        let mut lines: Vec<String> = names.map(part).collect();
        let ready = Self::at(paths, Tools::locate(paths)).is_up();
        lines.push(format!("cluster: {}", if ready { "ready" } else { "not ready" }));
        lines
    }

    /// What of a cluster is left on this machine.
    pub fn remains(paths: &Paths) -> Result<Remains> {
        Remains::find(paths, &Node::first(paths))
    }

    /// Lines for a shell to evaluate: `KUBECONFIG`, and a `PATH` with kubectl and helm.
    pub fn environment(&self) -> String {
        format!(
            "export KUBECONFIG='{}'\nexport PATH='{}':\"$PATH\"\n",
            self.kubeconfig().display(),
            self.bin_dir().display()
        )
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig("admin")
    }

    /// A directory with `kubectl`, `helm` and `ctr`.
    pub fn bin_dir(&self) -> PathBuf {
        self.paths.state.join("bin")
    }

    /// `kubectl` as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.tools.kubectl(), self.kubeconfig())
    }

    /// `helm` as the administrator, with its own caches kept in the state directory.
    pub fn helm(&self) -> Command {
        let mut command = Command::new(self.tools.helm());
        command.env("KUBECONFIG", self.kubeconfig());
        for (variable, dir) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.paths.state.join("helm").join(dir));
        }
        command
    }

    /// The cluster's only node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where things are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Makes the images of an OCI layout tar known to the node.
    pub fn load_image(&self, tar: &Path) -> Result<()> {
        images::import(&self.tools.ctr(), &self.node.containerd_socket(), tar)
    }

    fn at(paths: &Paths, tools: Tools) -> Self {
        let pki = pki::Pki::at(paths.state.join("pki"));
        Self { paths: paths.clone(), tools, pki, node: Node::first(paths) }
    }

    fn down_parts(&self) -> Vec<String> {
        let names = daemons::STOP_ORDER.iter().map(|(name, _)| *name);
        names
            .filter(|name| daemon::running(&self.paths, name).is_none())
            .map(|name| format!("{name} does not run"))
            .collect()
    }

    fn is_up(&self) -> bool {
        self.down_parts().is_empty() && addons::is_ready(&self.kubectl()) && node::is_ready(&self.kubectl(), &self.node)
    }

    fn start(&self) -> Result<()> {
        let step = progress::step("starting Kubernetes", Some("15 s"));
        self.pki.ensure(std::slice::from_ref(&self.node))?;
        self.link_programs()?;
        network::up(&self.paths)?;
        self.start_control_plane()?;
        node::start(&self.paths, &self.node, &self.tools, &self.pki)?;
        images::load_cluster_images(&self.paths, &self.tools, &self.node)?;
        node::wait(&self.paths, &self.node, &self.tools, &self.pki, &self.kubectl())?;
        addons::apply(&self.kubectl())?;
        step.done();
        Ok(())
    }

    fn start_control_plane(&self) -> Result<()> {
        daemons::etcd(&self.paths, &self.tools).start(&self.paths)?;
        let api = daemons::apiserver(&self.tools, &self.pki);
        api.start(&self.paths)?;
        let kubectl = self.kubectl();
        api.wait(&self.paths, PATIENCE, || {
            ensure!(
                daemon::running(&self.paths, "etcd").is_some(),
                "etcd ended: see {}",
                self.paths.log("etcd").display()
            );
            Ok(kubectl.run(["get", "--raw", "/readyz"])? == "ok")
        })?;
        daemons::controller_manager(&self.paths, &self.tools, &self.pki).start(&self.paths)?;
        daemons::scheduler(&self.tools, &self.pki).start(&self.paths)?;
        Ok(())
    }

    fn link_programs(&self) -> Result<()> {
        let dir = self.bin_dir();
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        for program in [self.tools.kubectl(), self.tools.helm(), self.tools.ctr()] {
            let link = dir.join(program.file_name().context("a program has a name")?);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(&program, &link).with_context(|| format!("linking {}", link.display()))?;
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        // First of all, so that nobody takes what a killed removal leaves for a cluster.
        stamp::Stamp::remove(&self.paths)?;
        for (name, grace) in daemons::STOP_ORDER {
            daemon::stop(&self.paths, name, *grace)?;
        }
        node::clean(&self.paths, &self.node)?;
        network::down(&self.paths)?;
        match std::fs::remove_dir_all(&self.paths.state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.paths.state.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Beside the state directory, which does not outlive the cluster.
fn lock_file(paths: &Paths) -> PathBuf {
    paths.cache.join("cluster.lock")
}
