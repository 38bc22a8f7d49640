//! The real `kubectl`, with errors that show what it said.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::exec;

/// How to call `kubectl`.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// Calls `program` with this kubeconfig.
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// A command to add arguments to.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // Its discovery cache would otherwise go to the home directory, and outlive the cluster.
        let cache = self.kubeconfig.with_file_name("kubectl-cache");
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", cache);
        command
    }

    /// Runs `kubectl` and returns what it printed, without the last line's end.
    pub fn run<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, arguments: I) -> Result<String> {
        Ok(exec::output(self.command().args(arguments))?.trim_end().to_owned())
    }

    /// Applies manifests, server-side.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let mut command = self.command();
        command.args(["apply", "--server-side", "--force-conflicts", "--filename", "-"]);
        exec::with_input(&mut command, yaml.as_bytes()).with_context(|| format!("applying\n{yaml}"))
    }

    /// Deletes what manifests name, and waits until it is gone. What is not there is fine.
    pub fn delete(&self, yaml: &str, limit: Duration) -> Result<String> {
        let mut command = self.command();
        command.args(["delete", "--ignore-not-found", &timeout(limit), "--filename", "-"]);
        exec::with_input(&mut command, yaml.as_bytes()).with_context(|| format!("deleting\n{yaml}"))
    }

    /// `kubectl wait`; on a timeout the error describes the object.
    pub fn wait(&self, namespace: &str, object: &str, condition: &str, limit: Duration) -> Result<()> {
        let result = self.run(["wait", "-n", namespace, object, &format!("--for={condition}"), &timeout(limit)]);
        result.map(drop).map_err(|error| match self.run(["describe", "-n", namespace, object]) {
            Ok(text) => error.context(format!("{object} in {namespace} is now:\n{text}")),
            Err(_) => error,
        })
    }

    /// Waits for a rollout.
    pub fn rollout(&self, namespace: &str, workload: &str, limit: Duration) -> Result<()> {
        let result = self.run(["rollout", "status", "-n", namespace, workload, &timeout(limit)]);
        result.map(drop).map_err(|error| match self.run(["get", "pods,events", "-n", namespace, "--output", "wide"]) {
            Ok(text) => error.context(format!("{workload} in {namespace} does not come up:\n{text}")),
            Err(_) => error,
        })
    }

    /// A pod's log.
    pub fn logs(&self, namespace: &str, pod: &str) -> Result<String> {
        self.run(["logs", "-n", namespace, pod])
    }
}

fn timeout(limit: Duration) -> String {
    format!("--timeout={}s", limit.as_secs().max(1))
}
