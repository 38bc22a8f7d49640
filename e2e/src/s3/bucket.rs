//! Putting data into a bucket: whole trees of small files, and files larger than memory should hold.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use opendal::{Operator, services};
use tokio::io::AsyncReadExt;

use super::{Keys, transport};

/// Small files that are sent at the same time.
const CONCURRENT_FILES: usize = 32;
/// Files from this size on are sent in parts.
const PART_BYTES: usize = 16 << 20;
/// Parts of a file that are sent at the same time.
const CONCURRENT_PARTS: usize = 4;

/// A bucket of an S3 server.
#[derive(Debug, Clone)]
pub struct Bucket {
    name: String,
    operator: Operator,
}

/// What an upload did.
#[derive(Debug, Clone, Copy, Default)]
pub struct UploadSummary {
    /// Files sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took.
    pub time: Duration,
}

impl Bucket {
    /// A client of an existing bucket.
    pub fn open(endpoint: &str, name: &str, keys: Keys) -> Result<Self> {
        transport::install();
        let builder = services::S3::default()
            .endpoint(endpoint)
            .bucket(name)
            .region("us-east-1")
            .access_key_id(keys.access_key)
            .secret_access_key(keys.secret_key)
            .disable_config_load()
            .disable_ec2_metadata();
        let operator = Operator::new(builder).with_context(|| format!("a client of the bucket {name}"))?;
        Ok(Self { name: name.to_owned(), operator })
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// OpenDAL's own client, for whatever else a test wants.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Writes one object.
    pub async fn put(&self, key: &str, bytes: impl Into<bytes::Bytes>) -> Result<()> {
        let bytes: bytes::Bytes = bytes.into();
        self.operator.write(key, bytes).await.map(drop).with_context(|| format!("writing {key} to {}", self.name))
    }

    /// Removes one object.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.operator.delete(key).await.with_context(|| format!("deleting {key} from {}", self.name))
    }

    /// Removes all objects whose keys begin with `prefix`, which ends in '/'.
    pub async fn delete_below(&self, prefix: &str) -> Result<()> {
        let removing = self.operator.delete_with(prefix).recursive(true);
        removing.await.with_context(|| format!("deleting {prefix} from {}", self.name))
    }

    /// Sends a file, in parts when it is large.
    pub async fn put_file(&self, key: &str, file: &Path) -> Result<u64> {
        let size = tokio::fs::metadata(file).await.with_context(|| format!("looking at {}", file.display()))?.len();
        if size <= PART_BYTES as u64 {
            let bytes = tokio::fs::read(file).await.with_context(|| format!("reading {}", file.display()))?;
            self.put(key, bytes).await?;
            return Ok(size);
        }
        let sending = async {
            let mut reader = tokio::fs::File::open(file).await?;
            let mut writer = self.operator.writer_with(key).chunk(PART_BYTES).concurrent(CONCURRENT_PARTS).await?;
            loop {
                let mut part = bytes::BytesMut::with_capacity(PART_BYTES);
                while part.len() < PART_BYTES && reader.read_buf(&mut part).await? > 0 {}
                if part.is_empty() {
                    break;
                }
                writer.write(part.freeze()).await?;
            }
            writer.close().await?;
            anyhow::Ok(())
        };
        sending.await.with_context(|| format!("sending {} to {}/{key}", file.display(), self.name))?;
        Ok(size)
    }

    /// Sends all regular files below `dir`, each under `prefix` and its path. Links and other special files are left out.
    pub async fn put_tree(&self, prefix: &str, dir: &Path) -> Result<UploadSummary> {
        let begun = Instant::now();
        let mut files = Vec::new();
        for entry in walkdir::WalkDir::new(dir) {
            let entry = entry.with_context(|| format!("listing {}", dir.display()))?;
            if entry.file_type().is_file() {
                let path = entry.path().strip_prefix(dir)?.to_str().context("a file name is not UTF-8")?;
                files.push((format!("{prefix}{path}"), entry.path().to_owned()));
            }
        }
        let count = files.len() as u64;
        let bytes = stream::iter(files)
            .map(|(key, path)| async move { self.put_file(&key, &path).await })
            .buffer_unordered(CONCURRENT_FILES)
            .try_fold(0, |sum, size| async move { Ok(sum + size) })
            .await?;
        Ok(UploadSummary { files: count, bytes, time: begun.elapsed() })
    }
}
