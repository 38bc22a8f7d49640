//! Takes an artifact from a client: written as it comes, known by the digest of its content.

use std::path::Path;

use futures::StreamExt;
use granary_crds::exchange::coding::{Coding, CodingError, Decompressor};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::{Address, ByteStream, Refusal};

/// Writes `body` durably into the new file `to`; the address of what is in it. Neither the body nor its content may have more than
/// `max_bytes` bytes.
pub(super) async fn receive(
    to: &Path,
    coding: Coding,
    max_bytes: u64,
    mut body: ByteStream,
) -> Result<Address, Refusal> {
    let mut file = File::create_new(to).await?;
    let mut content = Content::new(coding, max_bytes)?;
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| Refusal::Bad(format!("the artifact ended early: {error}")))?;
        bytes += chunk.len() as u64;
        if bytes > max_bytes {
            return Err(too_large(max_bytes));
        }
        content.take(&chunk)?;
        file.write_all(&chunk).await?;
    }
    let address = content.address()?;
    file.flush().await?;
    file.sync_all().await?;
    Ok(address)
}

/// Hashes what a body has in it.
struct Content {
    hash: Sha256,
    decompressor: Option<Decompressor>,
}

impl Content {
    fn new(coding: Coding, max_bytes: u64) -> Result<Self, Refusal> {
        let decompressor = match coding {
            Coding::Identity => None,
            Coding::Zstd => Some(Decompressor::new(max_bytes).map_err(refuse)?),
        };
        Ok(Self { hash: Sha256::new(), decompressor })
    }

    fn take(&mut self, mut chunk: &[u8]) -> Result<(), Refusal> {
        let Some(decompressor) = &mut self.decompressor else {
            self.hash.update(chunk);
            return Ok(());
        };
        while let Some(content) = decompressor.step(&mut chunk).map_err(refuse)? {
            self.hash.update(content);
        }
        Ok(())
    }

    fn address(self) -> Result<Address, Refusal> {
        self.decompressor.map(Decompressor::finish).transpose().map_err(refuse)?;
        Ok(Address::of(&self.hash.finalize()))
    }
}

fn too_large(max_bytes: u64) -> Refusal {
    Refusal::TooLarge(format!("an artifact may have at most {max_bytes} bytes"))
}

fn refuse(error: CodingError) -> Refusal {
    match error {
        CodingError::TooLong(max_bytes) => too_large(max_bytes),
        CodingError::Damaged(_) | CodingError::Unfinished | CodingError::Trailing => {
            Refusal::Bad(format!("the artifact's zstd is of no use: {error}"))
        }
    }
}
