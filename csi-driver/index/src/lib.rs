//! From listings to a version: lists the sources, decides which keys can be files, gives each object its place in the blob,
//! and writes extent table and image. What happens to which odd key is said in `docs/formats.md`.

mod artifact;
mod build;
mod collect;
mod error;
mod expected;
#[cfg(fuzzing)]
pub mod fuzz;
mod layout;
mod listing_digest;
mod name;
mod skipped;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use futures::StreamExt as _;
use granary_fetch::{Source, SourceConfig};
use granary_image::{Digest, ExtentTable, PinKind};

pub use artifact::Artifact;
pub use error::IndexError;
pub use skipped::{Reason, Skipped};

use collect::Collector;
use expected::Expected;

/// What to index.
pub struct IndexRequest {
    /// The dataset's sources. With several, each must have its own `path`.
    pub sources: Vec<(SourceConfig, Arc<Source>)>,
    /// The table to extend. When its blob is full, a new blob begins.
    pub parent: Option<ExtentTable>,
    /// Id of the blob that begins if no table is extended: 1 to 63 letters, digits, '-' and '_'.
    pub new_blob_id: String,
    /// Existing directory for the artifacts; they are named after their digests.
    pub out_dir: PathBuf,
}

/// What a version consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// Of path, size and pin of every file; independent of the blob.
    pub listing_digest: Digest,
    /// Number of files.
    pub file_count: u64,
    /// Sum of their sizes in bytes.
    pub size_bytes: u64,
    /// The address space that the image points into.
    pub blob_id: String,
    /// Its length in bytes.
    pub blob_bytes: u64,
    /// Digest of the table that was extended.
    pub parent: Option<Digest>,
    /// The EROFS image.
    pub image: Artifact,
    /// The extent table. The parent's own digest when no object is new.
    pub extents: Artifact,
    /// For each source of the request, in its order.
    pub sources: Vec<SourceSummary>,
    /// Keys that could not become files, by reason; reasons without keys are not in it.
    pub skipped: Vec<Skipped>,
}

/// What a source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceSummary {
    /// Number of files.
    pub file_count: u64,
    /// Sum of their sizes in bytes.
    pub size_bytes: u64,
    /// The weakest pin of its files; of a source without files the strongest.
    pub pinned_by: PinKind,
}

/// Calls to `progress` are this many keys apart.
const PROGRESS_EVERY: u64 = 1000;

/// Lists all sources, reads the files whose digests are stated, then writes the artifacts. `progress` is told how many keys were listed so far.
///
/// The same listing and parent give the same artifacts, in whatever order the sources list their keys.
pub async fn index(request: IndexRequest, progress: &(dyn Fn(u64) + Sync)) -> Result<Indexed, IndexError> {
    let configs = request.sources.iter().map(|(config, _)| config);
    let layout = layout::check(configs.clone().map(|config| config.path.as_deref()))?;
    let mut collected = Vec::with_capacity(request.sources.len());
    let mut count = 0;
    for ((config, source), prefix) in request.sources.iter().zip(layout.prefixes) {
        let mut collector = Collector::new(config.id(), prefix, source.object_name());
        let mut expected = Expected::of(config);
        let mut listing = source.list();
        while let Some(listed) = listing.next().await {
            let listed = listed?;
            expected.note(&listed);
            collector.add(&listed.key, listed.size, &listed.pin);
            count += 1;
            if count % PROGRESS_EVERY == 0 {
                progress(count);
            }
        }
        tracing::debug!(uri = config.uri, files = collector.len(), "source listed");
        drop(listing);
        expected.check(source).await?;
        collected.push(collector);
    }
    progress(count);
    let IndexRequest { parent, new_blob_id, out_dir, .. } = request;
    let build = move || build::build(collected, &layout.order, parent.as_ref(), new_blob_id, &out_dir);
    match tokio::task::spawn_blocking(build).await {
        Ok(result) => result,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}
