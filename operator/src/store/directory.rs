//! The image store in a directory: one file for each artifact, named by its digest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::{Address, ByteStream, ImageStore, Refusal, Stored};

/// Bytes read from an artifact at a time.
const READ_BYTES: usize = 256 * 1024;

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

    fn path(&self, address: &Address) -> PathBuf {
        self.artifacts.join(address.hex())
    }

    async fn receive(&self, upload: &Path, mut body: ByteStream) -> Result<Address, Refusal> {
        let mut file = File::create_new(upload).await?;
        let mut hash = Sha256::new();
        let mut bytes = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| Refusal::Bad(format!("the artifact ended early: {error}")))?;
            bytes += chunk.len() as u64;
            if bytes > self.max_bytes {
                return Err(Refusal::TooLarge(format!("an artifact may have at most {} bytes", self.max_bytes)));
            }
            hash.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        file.sync_all().await?;
        Ok(Address::of(&hash.finalize()))
    }
}

#[async_trait]
impl ImageStore for Directory {
    async fn put(&self, address: &Address, mut body: ByteStream) -> Result<bool, Refusal> {
        let path = self.path(address);
        if fs::try_exists(&path).await? {
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
        let found = self.receive(&upload, body).await?;
        if found != *address {
            return Err(Refusal::Bad(format!("the digest of what was sent is {found}, not {address}")));
        }
        fs::rename(&upload, &path).await?;
        std::mem::forget(guard);
        File::open(&self.artifacts).await?.sync_all().await?;
        Ok(true)
    }

    async fn get(&self, address: &Address) -> io::Result<Option<(u64, ByteStream)>> {
        let Some(file) = if_there(File::open(self.path(address)).await)? else {
            return Ok(None);
        };
        let bytes = file.metadata().await?.len();
        Ok(Some((bytes, ReaderStream::with_capacity(file, READ_BYTES).boxed())))
    }

    async fn size(&self, address: &Address) -> io::Result<Option<u64>> {
        Ok(if_there(fs::metadata(self.path(address)).await)?.map(|metadata| metadata.len()))
    }

    async fn list(&self) -> io::Result<Vec<Stored>> {
        let mut stored = Vec::new();
        let mut entries = fs::read_dir(&self.artifacts).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let Some(address) = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok()) else {
                continue;
            };
            if let Some(metadata) = if_there(entry.metadata().await)? {
                stored.push(Stored { address, bytes: metadata.len(), modified: metadata.modified()? });
            }
        }
        Ok(stored)
    }

    async fn delete(&self, address: &Address) -> io::Result<()> {
        if_there(fs::remove_file(self.path(address)).await).map(|_| ())
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
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream;

    fn body(chunks: &[&'static str]) -> ByteStream {
        stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect::<Vec<_>>()).boxed()
    }

    fn address(text: &str) -> Address {
        Address::of(&Sha256::digest(text))
    }

    async fn read(store: &Directory, address: &Address) -> Option<Vec<u8>> {
        let (bytes, mut stream) = store.get(address).await.unwrap()?;
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(bytes, all.len() as u64);
        Some(all)
    }

    fn uploads(dir: &Path) -> usize {
        std::fs::read_dir(dir.join("uploads")).unwrap().count()
    }

    #[tokio::test]
    async fn stores_what_has_the_digest_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(dir.path(), 10).await.unwrap();
        let hello = address("hello");
        assert!(store.put(&hello, body(&["hel", "lo"])).await.unwrap());
        assert!(!store.put(&hello, body(&["whatever"])).await.unwrap());
        assert_eq!(read(&store, &hello).await.unwrap(), b"hello");

        let other = address("other");
        assert!(matches!(store.put(&other, body(&["wrong"])).await, Err(Refusal::Bad(_))));
        assert!(matches!(store.put(&other, body(&["too ", "long", "long"])).await, Err(Refusal::TooLarge(_))));
        let broken = stream::iter([Ok(Bytes::from_static(b"oth")), Err(io::Error::other("cut"))]).boxed();
        assert!(matches!(store.put(&other, broken).await, Err(Refusal::Bad(_))));
        assert!(read(&store, &other).await.is_none());
        assert_eq!(uploads(dir.path()), 0);
    }

    #[tokio::test]
    async fn survives_a_restart_and_forgets_deleted_ones() {
        let dir = tempfile::tempdir().unwrap();
        let hello = address("hello");
        {
            let store = Directory::open(dir.path(), 10).await.unwrap();
            store.put(&hello, body(&["hello"])).await.unwrap();
            std::fs::write(dir.path().join("uploads/7"), "left").unwrap();
            std::fs::write(dir.path().join("artifacts/README"), "not ours").unwrap();
        }
        let store = Directory::open(dir.path(), 10).await.unwrap();
        assert_eq!(uploads(dir.path()), 0);
        let all = store.list().await.unwrap();
        assert_eq!((all.len(), all[0].bytes), (1, 5));
        store.delete(&hello).await.unwrap();
        store.delete(&hello).await.unwrap();
        assert_eq!(store.size(&hello).await.unwrap(), None);
    }

    #[tokio::test]
    async fn has_all_means_with_their_lengths() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(dir.path(), 10).await.unwrap();
        store.put(&address("hello"), body(&["hello"])).await.unwrap();
        let artifact = |text: &str, size_bytes| granary_crds::dataset_version::Artifact {
            digest: address(text).to_string(),
            size_bytes,
            ..Default::default()
        };
        assert!(store.has_all(&[artifact("hello", 5)]).await.unwrap());
        assert!(!store.has_all(&[artifact("hello", 6)]).await.unwrap());
        assert!(!store.has_all(&[artifact("hello", 5), artifact("other", 5)]).await.unwrap());
    }
}
