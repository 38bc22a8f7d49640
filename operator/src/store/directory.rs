//! The image store in a directory: one file for each artifact, named by its digest, written as it was sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use futures::StreamExt;
use granary_crds::exchange::coding::{self, Coding};
use tokio::fs::{self, File};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::download::decompressed;
use super::upload::receive;
use super::{Address, ByteStream, ImageStore, Outgoing, Refusal, Stored};

/// Bytes read from an artifact at a time.
const READ_BYTES: usize = 256 * 1024;

/// How artifacts are written, best first, and how the names of their files then end.
const CODINGS: [(Coding, &str); 2] = [(Coding::Zstd, ".zst"), (Coding::Identity, "")];

/// The image store in a directory.
pub struct Directory {
    artifacts: PathBuf,
    uploads: PathBuf,
    max_bytes: u64,
    next_upload: AtomicU64,
}

impl Directory {
    /// Opens or makes the store below `dir`; uploads that a predecessor left are deleted. `max_bytes` limits one artifact.
    pub async fn open(dir: &Path, max_bytes: u64) -> io::Result<Self> {
        let (artifacts, uploads) = (dir.join("artifacts"), dir.join("uploads"));
        if fs::try_exists(&uploads).await? {
            fs::remove_dir_all(&uploads).await?;
        }
        fs::create_dir_all(&uploads).await?;
        fs::create_dir_all(&artifacts).await?;
        Ok(Self { artifacts, uploads, max_bytes, next_upload: AtomicU64::new(0) })
    }

    fn path(&self, address: &Address, coding: Coding) -> PathBuf {
        let ending = CODINGS.iter().find(|(of, _)| *of == coding).map_or("", |(_, ending)| ending);
        self.artifacts.join(format!("{}{ending}", address.hex()))
    }

    /// The artifact's file, opened.
    async fn find(&self, address: &Address) -> io::Result<Option<(Coding, PathBuf, File)>> {
        for (coding, _) in CODINGS {
            let path = self.path(address, coding);
            if let Some(file) = if_there(File::open(&path).await)? {
                return Ok(Some((coding, path, file)));
            }
        }
        Ok(None)
    }
}

/// Length of what a file has in it, in bytes; its position is moved.
async fn content_bytes(coding: Coding, file: &mut File) -> io::Result<u64> {
    if coding == Coding::Identity {
        return Ok(file.metadata().await?.len());
    }
    let mut header = Vec::with_capacity(coding::HEADER_BYTES);
    file.take(coding::HEADER_BYTES as u64).read_to_end(&mut header).await?;
    coding::content_length(&header).ok_or_else(|| io::Error::other("an artifact does not say how long its content is"))
}

#[async_trait]
impl ImageStore for Directory {
    async fn put(&self, address: &Address, coding: Coding, mut body: ByteStream) -> Result<bool, Refusal> {
        if let Some((_, path, _)) = self.find(address).await? {
            // Taken and dropped: a client that still writes when the answer comes sees a broken connection, not the answer.
            while let Some(chunk) = body.next().await {
                chunk.map_err(|error| Refusal::Bad(format!("the artifact ended early: {error}")))?;
            }
            // Its age starts again: a result that names it may follow.
            let file = File::options().append(true).open(&path).await?.into_std().await;
            file.set_modified(SystemTime::now())?;
            return Ok(false);
        }
        let upload = self.uploads.join(self.next_upload.fetch_add(1, Ordering::Relaxed).to_string());
        // Also when the request is cancelled in the middle.
        let guard = RemoveFile(&upload);
        let found = receive(&upload, coding, self.max_bytes, body).await?;
        if found != *address {
            return Err(Refusal::Bad(format!("the digest of what was sent is {found}, not {address}")));
        }
        content_bytes(coding, &mut File::open(&upload).await?)
            .await
            .map_err(|error| Refusal::Bad(format!("the artifact's zstd is of no use: {error}")))?;
        fs::rename(&upload, self.path(address, coding)).await?;
        std::mem::forget(guard);
        File::open(&self.artifacts).await?.sync_all().await?;
        Ok(true)
    }

    async fn get(&self, address: &Address, accepted: Coding) -> io::Result<Option<Outgoing>> {
        let Some((coding, path, mut file)) = self.find(address).await? else {
            return Ok(None);
        };
        if coding == accepted || coding == Coding::Identity {
            let bytes = file.metadata().await?.len();
            let stream = ReaderStream::with_capacity(file, READ_BYTES).boxed();
            return Ok(Some(Outgoing { coding, bytes, stream }));
        }
        let bytes = content_bytes(coding, &mut file).await?;
        let stream = ReaderStream::with_capacity(File::open(path).await?, READ_BYTES).boxed();
        Ok(Some(Outgoing { coding: Coding::Identity, bytes, stream: decompressed(stream, bytes)? }))
    }

    async fn size(&self, address: &Address) -> io::Result<Option<u64>> {
        let Some((coding, _, mut file)) = self.find(address).await? else {
            return Ok(None);
        };
        content_bytes(coding, &mut file).await.map(Some)
    }

    async fn list(&self) -> io::Result<Vec<Stored>> {
        let mut stored = Vec::new();
        let mut entries = fs::read_dir(&self.artifacts).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let hex = name.to_str().map(|name| name.strip_suffix(".zst").unwrap_or(name));
            let Some(address) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) else {
                continue;
            };
            if let Some(metadata) = if_there(entry.metadata().await)? {
                stored.push(Stored { address, bytes: metadata.len(), modified: metadata.modified()? });
            }
        }
        Ok(stored)
    }

    async fn delete(&self, address: &Address) -> io::Result<()> {
        for (coding, _) in CODINGS {
            if_there(fs::remove_file(self.path(address, coding)).await)?;
        }
        Ok(())
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct RemoveFile<'a>(&'a Path);

impl Drop for RemoveFile<'_> {
    fn drop(&mut self) {
        // An upload that stays is deleted at the next start.
        let _ = std::fs::remove_file(self.0);
    }
}

#[cfg(test)]
mod tests;
