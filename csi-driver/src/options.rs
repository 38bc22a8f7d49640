//! Command line of `granary-csi`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use granary_serve::LayoutChoice;

use crate::store::{Authority, StoreAddress};

/// CSI driver of Granary: mounts datasets into pods, and indexes them.
#[derive(Parser, Debug)]
#[command(name = "granary-csi", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What is logged: error, warn, info, debug, trace, or directives such as granary_serve=debug,info.
    #[arg(long, global = true, default_value = "info", env = "GRANARY_LOG_LEVEL")]
    pub log_level: String,
    /// How it is logged.
    #[arg(long, global = true, default_value = "json", env = "GRANARY_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// How messages are logged.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve the pods of this node: needs root, and runs until it is told to end. Mounts stay.
    Node(NodeOptions),
    /// Hold what a node process leaves to its successor. Runs until it is killed, and should not be.
    Keeper(KeeperOptions),
    /// Index the Dataset that the operator has assigned to this Job, once.
    Index(IndexOptions),
}

/// Options of a node.
#[derive(Args, Debug)]
pub struct NodeOptions {
    /// Name of this Node.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// The kubelet's directory, at the same path as on the host, with mounts going both ways.
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,
    /// Private mounts, images and what is published; below the kubelet's directory. Default: plugins/csi.granary.dev/state there.
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// Where the keeper listens. Default: plugins/csi.granary.dev/keeper/keeper.sock below the kubelet's directory. Without a keeper
    /// reads can fail while the node process is away.
    #[arg(long)]
    pub keeper_socket: Option<PathBuf>,
    /// Directory of the caches of all classes, at the same path as on the host.
    #[arg(long, default_value = "/var/lib/granary/cache")]
    pub cache_root: PathBuf,
    /// Directory below which file:// sources may lie; may be repeated.
    #[arg(long = "file-root")]
    pub file_roots: Vec<PathBuf>,
    /// How long what the API server said about a dataset and its grants counts for new pods while it is away, in seconds; 0: not at
    /// all. Somebody whose grant is taken back meanwhile can start pods for so long, on nodes that do not hear of it.
    #[arg(long, default_value_t = 600)]
    pub access_max_age_seconds: u64,
    /// How versions are mounted: EROFSFile, EROFSLoop or FUSE, or not at all; Auto: by the first of them that the kernel can.
    #[arg(long, default_value = "Auto")]
    pub layout: LayoutChoice,
    /// How much of each cache is read in the background and compared with its checksums, in MiB a second; 0: nothing.
    #[arg(long, default_value_t = granary_blob::SCRUB_RATE >> 20)]
    pub scrub_mib_per_second: u64,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:9808")]
    pub listen: SocketAddr,
    /// The operator's image store.
    #[command(flatten)]
    pub store: StoreOptions,
}

/// Options of a keeper.
#[derive(Args, Debug)]
pub struct KeeperOptions {
    /// Where it listens: a path in a directory that is root's.
    #[arg(long, default_value = "/var/lib/kubelet/plugins/csi.granary.dev/keeper/keeper.sock")]
    pub socket: PathBuf,
}

/// Options of an index Job.
#[derive(Args, Debug)]
pub struct IndexOptions {
    /// Where the Dataset's Secret is mounted. An empty or missing directory: the Secret does not exist.
    #[arg(long, env = "GRANARY_SECRET_DIR")]
    pub secret_dir: Option<PathBuf>,
    /// Name of that Secret, for messages.
    #[arg(long, env = "GRANARY_SECRET_NAME", default_value = "")]
    pub secret_name: String,
    /// Directory for images and tables while they are made, about 100 bytes a file.
    #[arg(long, default_value = "/tmp", env = "GRANARY_WORK_DIR")]
    pub work_dir: PathBuf,
    /// Directory below which file:// sources may lie; may be repeated.
    #[arg(long = "file-root", env = "GRANARY_FILE_ROOTS", value_delimiter = ':')]
    pub file_roots: Vec<PathBuf>,
    /// The operator's image store.
    #[command(flatten)]
    pub store: StoreOptions,
}

/// The operator's image store.
#[derive(Args, Debug)]
pub struct StoreOptions {
    /// URL of the operator's image store.
    #[arg(long, env = "GRANARY_STORE_URL")]
    pub store_url: String,
    /// File with the certificate of its authority. It may come later, and change.
    #[arg(long, default_value = "/etc/granary/ca/ca.crt")]
    pub store_ca: PathBuf,
    /// That certificate itself, in PEM, instead of a file.
    #[arg(long, env = "GRANARY_STORE_CA", hide_env_values = true)]
    pub store_ca_pem: Option<String>,
    /// File with a token of audience 'granary'. It may change.
    #[arg(long, env = "GRANARY_TOKEN_FILE", default_value = "/var/run/secrets/granary/token")]
    pub token_file: PathBuf,
}

impl StoreOptions {
    /// Where the store is.
    pub fn address(&self) -> StoreAddress {
        let authority = match &self.store_ca_pem {
            Some(pem) => Authority::Pem(pem.clone()),
            None => Authority::File(self.store_ca.clone()),
        };
        StoreAddress { url: self.store_url.clone(), authority, token_file: self.token_file.clone() }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn takes_what_the_operator_gives_a_job() {
        let options = Options::try_parse_from([
            "granary-csi",
            "index",
            "--store-url=https://granary-operator.granary.svc:8443",
            "--token-file=/var/run/secrets/granary/token",
            "--work-dir=/var/lib/granary",
            "--file-root=/data",
            "--store-ca-pem=-----BEGIN CERTIFICATE-----",
        ])
        .unwrap();
        let Command::Index(index) = options.command else { panic!("not a Job") };
        assert!(matches!(index.store.address().authority, Authority::Pem(pem) if pem.starts_with("-----")));
    }

    #[test]
    fn takes_what_the_chart_gives() {
        let options = Options::try_parse_from([
            "granary-csi",
            "node",
            "--node-name=node1",
            "--kubelet-dir=/var/lib/kubelet",
            "--state-dir=/var/lib/kubelet/plugins/csi.granary.dev/state",
            "--keeper-socket=/var/lib/kubelet/plugins/csi.granary.dev/keeper/keeper.sock",
            "--cache-root=/var/lib/granary/cache",
            "--store-url=https://granary-operator.granary.svc:8443",
            "--store-ca=/etc/granary/ca/ca.crt",
            "--token-file=/var/run/secrets/granary/token",
            "--file-root=/data",
            "--file-root=/more",
            "--access-max-age-seconds=60",
            "--layout=FUSE",
            "--scrub-mib-per-second=16",
            "--listen=0.0.0.0:9808",
            "--log-level=info",
            "--log-format=json",
        ])
        .unwrap();
        let Command::Node(node) = options.command else { panic!("not a node") };
        assert_eq!(node.layout, LayoutChoice::FUSE);
        assert_eq!((node.file_roots.len(), node.access_max_age_seconds), (2, 60));
        assert_eq!(node.scrub_mib_per_second, 16);
    }
}
