//! Client of the operator's image store, for nodes and index Jobs: [`granary_crds::exchange`] over HTTPS.

mod connection;
mod download;
mod error;
mod upload;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use granary_crds::exchange::coding::ZSTD;
use granary_crds::exchange::{ASSIGNMENT_PATH, Assignment, IndexResult, Problem, RESULT_PATH, artifact_path};
use granary_image::Digest;
use granary_serve::{ArtifactError, ArtifactStore};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use reqwest::{Method, RequestBuilder, Response};
use tokio::fs::File;

use connection::Connection;
pub use connection::{Authority, StoreAddress};
pub use error::StoreError;

/// How often something is tried, with a pause after each attempt that doubles: 6 s in all, if it begins with [`PAUSE`].
const ATTEMPTS: u32 = 6;
/// The first pause.
pub const PAUSE: Duration = Duration::from_millis(200);

/// The operator's image store.
pub struct StoreClient {
    connection: Connection,
    pause: Duration,
}

impl StoreClient {
    /// The store at `address`. Nothing is asked yet. After a first failure, it pauses for `pause`.
    pub fn new(address: StoreAddress, pause: Duration) -> Self {
        Self { connection: Connection::new(address), pause }
    }

    fn attempts(&self) -> Attempts {
        Attempts { left: ATTEMPTS - 1, pause: self.pause }
    }

    /// What this Job shall index.
    pub async fn assignment(&self) -> Result<Assignment, StoreError> {
        let mut attempts = self.attempts();
        loop {
            match self.try_assignment().await {
                Err(error) => attempts.pause_after(error).await?,
                assignment => return assignment,
            }
        }
    }

    /// Delivers what was found.
    pub async fn post_result(&self, result: &IndexResult) -> Result<(), StoreError> {
        let mut attempts = self.attempts();
        while let Err(error) = self.ask(Method::POST, RESULT_PATH, |request| request.json(result)).await {
            attempts.pause_after(error).await?;
        }
        Ok(())
    }

    /// Stores the `bytes` bytes in `file` under their digest. They are compressed once, into a file beside it that is removed again.
    pub async fn put(&self, digest: &Digest, bytes: u64, file: &Path) -> Result<(), StoreError> {
        let path = artifact_path(&digest.to_string());
        let packed = upload::Packed::make(file, bytes).await?;
        let mut attempts = self.attempts();
        while let Err(error) = self.try_put(&path, &packed).await {
            attempts.pause_after(error).await?;
        }
        Ok(())
    }

    /// Writes the artifact into `to`. Exactly `bytes` bytes come, or an error; whether they have the digest is for the caller to find out.
    pub async fn get(&self, digest: &Digest, bytes: u64, to: &Path) -> Result<(), StoreError> {
        let path = artifact_path(&digest.to_string());
        let mut attempts = self.attempts();
        while let Err(error) = self.try_get(&path, bytes, to).await {
            attempts.pause_after(error).await?;
        }
        Ok(())
    }

    async fn try_assignment(&self) -> Result<Assignment, StoreError> {
        let response = self.ask(Method::GET, ASSIGNMENT_PATH, |request| request).await?;
        response.json().await.map_err(StoreError::broken)
    }

    async fn try_put(&self, path: &str, packed: &upload::Packed) -> Result<(), StoreError> {
        let failed = |error| StoreError::file("read", packed.path(), error);
        let body = File::open(packed.path()).await.map_err(failed)?;
        let bytes = body.metadata().await.map_err(failed)?.len();
        let put =
            |request: RequestBuilder| request.header(CONTENT_ENCODING, ZSTD).header(CONTENT_LENGTH, bytes).body(body);
        self.ask(Method::PUT, path, put).await.map(drop)
    }

    async fn try_get(&self, path: &str, bytes: u64, to: &Path) -> Result<(), StoreError> {
        let response = self.ask(Method::GET, path, |request| request.header(ACCEPT_ENCODING, ZSTD)).await?;
        download::write(response, path, bytes, to).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, StoreError> {
        let request = with(self.connection.request(method, path).await?);
        let response = request.send().await.map_err(StoreError::broken)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // Not every error comes from the store itself: something between may have no Problem to tell.
        let message = match response.json::<Problem>().await {
            Ok(problem) => problem.message,
            Err(_) => "no reason given".to_owned(),
        };
        Err(StoreError::Refused { path: path.to_owned(), status: status.as_u16(), message })
    }
}

/// What is left of [`ATTEMPTS`].
struct Attempts {
    left: u32,
    pause: Duration,
}

impl Attempts {
    /// Waits a moment after `error`; gives it back if trying again is of no use.
    async fn pause_after(&mut self, error: StoreError) -> Result<(), StoreError> {
        if self.left == 0 || !error.is_retryable() {
            return Err(error);
        }
        tracing::debug!("{error}; trying again");
        tokio::time::sleep(self.pause).await;
        self.left -= 1;
        self.pause *= 2;
        Ok(())
    }
}

#[async_trait]
impl ArtifactStore for StoreClient {
    async fn fetch(&self, digest: &Digest, bytes: u64, to: &Path) -> Result<(), ArtifactError> {
        self.get(digest, bytes, to).await.map_err(|error| ArtifactError(error.to_string()))
    }
}
