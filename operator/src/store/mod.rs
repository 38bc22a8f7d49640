//! The image store: artifacts by content address, and the HTTPS server that index Jobs and nodes speak to.

mod address;
mod commit;
mod desk;
mod directory;
mod download;
pub mod gc;
mod refusal;
mod registry;
mod reviewer;
pub mod server;
pub mod tls;
mod upload;

use std::io;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use granary_crds::dataset_version::Artifact;
use granary_crds::exchange::coding::Coding;

pub use self::address::Address;
pub use self::desk::{ClusterDesk, DeskSettings};
pub use self::directory::Directory;
pub use self::refusal::Refusal;
pub use self::registry::JobRegistry;
pub use self::reviewer::{Identity, KubeReviewer, Reviewer};
pub use self::server::{Caller, Desk, JobRef};

/// The bytes of an artifact.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// An artifact on its way to a client.
pub struct Outgoing {
    /// How `stream` is written.
    pub coding: Coding,
    /// Length of `stream`, in bytes.
    pub bytes: u64,
    /// The artifact.
    pub stream: ByteStream,
}

/// Something that the store holds.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where.
    pub address: Address,
    /// What it takes, in bytes.
    pub bytes: u64,
    /// When it was last put there.
    pub modified: SystemTime,
}

/// Where artifacts lie. A directory for now; an object store would be another implementation.
#[async_trait]
pub trait ImageStore: Send + Sync {
    /// Stores `body`, written in `coding`, durably if its content has the digest `address`; true if it was not there before.
    async fn put(&self, address: &Address, coding: Coding, body: ByteStream) -> Result<bool, Refusal>;

    /// An artifact, as it is or in `accepted`.
    async fn get(&self, address: &Address, accepted: Coding) -> io::Result<Option<Outgoing>>;

    /// Length of an artifact's content, in bytes.
    async fn size(&self, address: &Address) -> io::Result<Option<u64>>;

    /// Everything.
    async fn list(&self) -> io::Result<Vec<Stored>>;

    /// Deletes an artifact; fine if it is gone.
    async fn delete(&self, address: &Address) -> io::Result<()>;

    /// Whether all of these are there, with their lengths.
    async fn has_all(&self, artifacts: &[Artifact]) -> io::Result<bool> {
        for artifact in artifacts {
            let Ok(address) = artifact.digest.parse::<Address>() else {
                return Ok(false);
            };
            let size = self.size(&address).await?;
            if size.and_then(|size| i64::try_from(size).ok()) != Some(artifact.size_bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
