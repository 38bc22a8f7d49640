//! A real S3 server beside the cluster, which pods and the node reach at the bridge's address: SeaweedFS' `weed`.

mod bucket;
mod transport;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::layout::ADDRESS;
use crate::daemon::{self, Daemon};
use crate::exec;
use crate::paths::{Paths, write_atomically};
use crate::tools::python;

pub use bucket::{Bucket, UploadSummary};

/// Names the process of the server in `cluster status`.
pub(crate) const NAME: &str = "weed";
const S3_PORT: u16 = 8333;
const MASTER_PORT: u16 = 9333;

/// A pair of keys.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: &'static str,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: &'static str,
}

/// May do everything.
pub const ADMIN: Keys = Keys { access_key: "e2e-admin", secret_key: "e2e-admin-secret-value" };
/// May list and read everything: what a Dataset's Secret holds.
pub const READER: Keys = Keys { access_key: "e2e-reader", secret_key: "e2e-reader-secret-value" };

/// The running server.
#[derive(Debug, Clone)]
pub struct S3 {
    paths: Paths,
    weed: PathBuf,
}

impl S3 {
    /// Starts the server unless it runs. The cluster's network has to be up.
    pub fn start(paths: &Paths) -> Result<Self> {
        let weed = python::weed(paths)?;
        let dir = paths.state.join("s3");
        let config = dir.join("identities.json");
        write_atomically(&config, serde_json::to_vec_pretty(&identities())?)?;
        std::fs::create_dir_all(dir.join("data")).context("making the S3 server's directory")?;
        // One process with master, volumes, filer and S3. Volumes are small because each
        // bucket takes several, and as many are made as the disk has room for.
        let server = Daemon::new(NAME, weed.clone()).args([
            "server".to_owned(),
            format!("-dir={}", dir.join("data").display()),
            format!("-ip={ADDRESS}"),
            format!("-ip.bind={ADDRESS}"),
            format!("-master.port={MASTER_PORT}"),
            "-master.volumeSizeLimitMB=128".to_owned(),
            "-volume.max=0".to_owned(),
            "-s3".to_owned(),
            format!("-s3.port={S3_PORT}"),
            format!("-s3.config={}", config.display()),
        ]);
        server.start(paths)?;
        let s3 = Self { paths: paths.clone(), weed };
        server.wait(paths, Duration::from_secs(60), || s3.answers())?;
        Ok(s3)
    }

    /// Stops the server; its data stays until the cluster is removed.
    pub fn stop(&self) -> Result<()> {
        daemon::stop(&self.paths, NAME, Duration::from_secs(10))
    }

    /// The endpoint, as pods and the node reach it.
    pub fn endpoint(&self) -> String {
        format!("http://{ADDRESS}:{S3_PORT}")
    }

    /// Makes a bucket, unless it is there, and returns a client of it with the administrator's keys.
    pub fn bucket(&self, name: &str) -> Result<Bucket> {
        if !self.has_bucket(name)? {
            let said = self.shell(&format!("s3.bucket.create -name {name}"))?;
            // The shell may say an error and still exit with 0, so what matters is looked at.
            anyhow::ensure!(self.has_bucket(name)?, "the S3 server did not make the bucket {name}: {said}");
        }
        Bucket::open(&self.endpoint(), name, ADMIN)
    }

    fn has_bucket(&self, name: &str) -> Result<bool> {
        let listed = self.shell("s3.bucket.list")?;
        Ok(listed.lines().any(|line| line.split_whitespace().next() == Some(name)))
    }

    /// Removes a bucket with all that is in it.
    pub fn delete_bucket(&self, name: &str) -> Result<()> {
        self.shell(&format!("s3.bucket.delete -name {name}")).map(drop)
    }

    fn shell(&self, command: &str) -> Result<String> {
        let mut shell = Command::new(&self.weed);
        shell.args(["shell", &format!("-master={ADDRESS}:{MASTER_PORT}")]);
        exec::with_input(&mut shell, format!("{command}\n").as_bytes())
    }

    /// Whether the server answers; being refused without keys is an answer, too.
    fn answers(&self) -> Result<bool> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect((ADDRESS, S3_PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    }
}

fn identities() -> serde_json::Value {
    let identity = |name: &str, keys: Keys, actions: &[&str]| {
        json!({
            "name": name,
            "credentials": [{"accessKey": keys.access_key, "secretKey": keys.secret_key}],
            "actions": actions,
        })
    };
    json!({"identities": [
        identity("admin", ADMIN, &["Admin", "Read", "List", "Tagging", "Write"]),
        identity("reader", READER, &["Read", "List"]),
    ]})
}
