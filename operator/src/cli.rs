//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::api::core::v1::ResourceRequirements;

/// The operator of Granary: makes versions of Datasets, and their volumes.
#[derive(Parser, Debug)]
#[command(name = "granary-operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Reconciles until it is stopped.
    Run(Box<RunArgs>),
    /// Before an uninstall: fails with a list while pods use volumes, else removes the finalizers that only the operator would remove.
    PreflightUninstall(CommonArgs),
}

/// What both need.
#[derive(Args, Debug, Clone)]
pub struct CommonArgs {
    /// The release's namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Name of this instance in the Lease.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Least severe messages that are logged, or a filter such as 'info,granary_operator=debug'.
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// How they are written.
    #[arg(long, default_value = "text")]
    pub log_format: LogFormat,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How to reconcile.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,
    /// Image of index Jobs.
    #[arg(long)]
    pub image: String,
    /// When it is pulled.
    #[arg(long, default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// Secret for pulling it; repeatable.
    #[arg(long = "image-pull-secret")]
    pub image_pull_secrets: Vec<String>,
    /// Resources of index Jobs, a ResourceRequirements as JSON.
    #[arg(long, default_value = "{}", value_parser = parse_resources)]
    pub job_resources: ResourceRequirements,
    /// Directory of the image store, its CA and the operator's own records.
    #[arg(long)]
    pub store_dir: PathBuf,
    /// URL by which Jobs and nodes reach the image store.
    #[arg(long)]
    pub store_url: String,
    /// Address on which the image store serves HTTPS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub store_listen: SocketAddr,
    /// Address of health and metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// ConfigMap of the release's namespace that gets the CA's certificate, as ca.crt.
    #[arg(long, default_value = "granary-ca")]
    pub ca_config_map: String,
    /// Service account of the nodes.
    #[arg(long, default_value = "granary-node")]
    pub node_service_account: String,
    /// Host directory that file:// sources may be below; repeatable.
    #[arg(long = "file-root")]
    pub file_roots: Vec<String>,
    /// A DataStorageClass, as JSON, that is applied at the start.
    #[arg(long)]
    pub default_class: Option<PathBuf>,
}

fn parse_resources(text: &str) -> Result<ResourceRequirements, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn takes_what_the_chart_gives() {
        let cli = Cli::try_parse_from([
            "granary-operator",
            "run",
            "--namespace=granary",
            "--pod-name=granary-operator-1",
            "--image=example/granary:1",
            "--image-pull-policy=Never",
            "--job-resources={\"requests\":{\"cpu\":\"1\"}}",
            "--store-dir=/var/lib/granary/store",
            "--store-url=https://granary-operator.granary.svc:8443",
            "--store-listen=0.0.0.0:8443",
            "--listen=0.0.0.0:8080",
            "--ca-config-map=granary-ca",
            "--node-service-account=granary-node",
            "--file-root=/data",
            "--log-level=info",
            "--log-format=json",
        ]);
        let Command::Run(args) = cli.unwrap().command else { panic!("not run") };
        assert_eq!(args.job_resources.requests.unwrap()["cpu"].0, "1");
        assert_eq!(args.file_roots, ["/data"]);
    }
}
