//! The index Job: asks what to index, lists the sources, stores what comes of it, and tells the operator.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use granary_crds::conditions::reasons;
use granary_crds::dataset_version::{
    ARTIFACT_EXTENTS, ARTIFACT_IMAGE, Artifact, Blob, PinnedBy, Skipped, VersionSource,
};
use granary_crds::exchange::{
    AssignedCredentials, Assignment, IndexFailure, IndexResult, IndexedVersion, MEDIA_TYPE_EXTENTS, MEDIA_TYPE_IMAGE,
};
use granary_crds::{Time, dataset};
use granary_fetch::{SecretKeys, SharedCredentials, Source, SourceConfig, SourceError};
use granary_image::PinKind;
use granary_index::{IndexError, IndexRequest, Indexed, SourceSummary};
use k8s_openapi::jiff::Timestamp;

use crate::options::IndexOptions;
use crate::store::{PAUSE, StoreClient};
use crate::{manifest, parent, secret_dir};

/// Another Job may extend the same table meanwhile; then this one begins again.
const ATTEMPTS: usize = 5;

/// Objects between two lines of the log.
const PROGRESS_STEP: u64 = 100_000;

/// Why there is nothing to deliver.
enum Stop {
    /// The operator shall know of it.
    Failure(IndexFailure),
    /// The operator could not be spoken to, or this machine is in trouble.
    Error(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

/// Indexes what is assigned. Succeeds when the operator has the result, also if that is a failure to index.
pub async fn run(options: &IndexOptions) -> anyhow::Result<()> {
    let store = StoreClient::new(options.store.address(), PAUSE);
    for attempt in 1..=ATTEMPTS {
        let assignment = match store.assignment().await {
            Err(error) if error.status() == Some(404) => {
                tracing::info!("nothing is assigned to this Job any more: {error}");
                return Ok(());
            }
            assignment => assignment.context("cannot learn what to index")?,
        };
        tracing::info!(dataset = assignment.dataset_name, namespace = assignment.dataset_namespace, "indexing");
        let directory = options.work_dir.join(format!("index-{attempt}"));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create '{}'", directory.display()))?;
        let outcome = index(&assignment, options, &store, &directory).await;
        let removed = std::fs::remove_dir_all(&directory);
        removed.with_context(|| format!("cannot remove '{}'", directory.display()))?;
        let result = match outcome {
            Ok(version) => IndexResult::Ok(Box::new(version)),
            Err(Stop::Failure(failure)) => {
                tracing::warn!(reason = failure.reason, "{}", failure.message);
                IndexResult::Failed(failure)
            }
            Err(Stop::Error(error)) => return Err(error),
        };
        match store.post_result(&result).await {
            Ok(()) => return Ok(()),
            Err(error) if error.status() == Some(409) => tracing::info!("{error}; beginning again"),
            Err(error) if error.status() == Some(404) => {
                tracing::info!("nothing is assigned to this Job any more: {error}");
                return Ok(());
            }
            Err(error) => return Err(error).context("cannot deliver the result"),
        }
    }
    bail!("{ATTEMPTS} times another Job was faster")
}

async fn index(
    assignment: &Assignment,
    options: &IndexOptions,
    store: &StoreClient,
    directory: &Path,
) -> Result<IndexedVersion, Stop> {
    let sources = open(assignment, options).map_err(Stop::Failure)?;
    let parent = match &assignment.parent {
        Some(parent) => parent::download(parent, store, directory).await?,
        None => None,
    };
    let request =
        IndexRequest { sources, parent, new_blob_id: assignment.new_blob_id.clone(), out_dir: directory.to_owned() };
    let progress = |objects: u64| {
        if objects.is_multiple_of(PROGRESS_STEP) {
            tracing::info!(objects, "listed");
        }
    };
    let indexed = granary_index::index(request, &progress).await.map_err(failure)?;
    // When nothing is new, the table is the one that was fetched.
    let table = Some(&indexed.extents).filter(|extents| indexed.parent != Some(extents.digest));
    for artifact in table.into_iter().chain([&indexed.image]) {
        let stored = store.put(&artifact.digest, artifact.bytes, &artifact.path).await;
        stored.context("cannot store what was indexed")?;
    }
    Ok(version(assignment, indexed, Timestamp::now()))
}

/// Opens the sources as whom, and as far as, the assignment says.
fn open(assignment: &Assignment, options: &IndexOptions) -> Result<Vec<(SourceConfig, Arc<Source>)>, IndexFailure> {
    let has_secret = assignment.credentials == AssignedCredentials::Secret;
    let keys = match (has_secret, &options.secret_dir) {
        (true, Some(directory)) => secret_dir::read(directory),
        _ => SecretKeys::default(),
    };
    if has_secret && keys.is_empty() {
        return Err(IndexFailure {
            reason: reasons::SECRET_NOT_FOUND.to_owned(),
            message: format!(
                "namespace '{}' has no Secret '{}', which spec.credentials.secretRef names, or it has no keys: create it",
                assignment.dataset_namespace, options.secret_name
            ),
        });
    }
    let denied = |message: String| IndexFailure { reason: reasons::SOURCE_DENIED.to_owned(), message };
    let object = format!("Dataset '{}/{}'", assignment.dataset_namespace, assignment.dataset_name);
    let policy = manifest::policy(&assignment.source_policy, &options.file_roots, "the DataStorageClass");
    let policy = Arc::new(policy.map_err(|error| denied(error.to_string()))?);
    let credentials = Arc::new(SharedCredentials::new(keys));
    let open = |source: &dataset::Source| {
        let config = manifest::source(source, has_secret, &object).map_err(|error| denied(error.to_string()))?;
        let source =
            Source::open(&config, credentials.clone(), policy.clone()).map_err(|error| source_failure(&error))?;
        Ok((config, source))
    };
    assignment.sources.iter().map(open).collect()
}

/// What is wrong with the sources is for the operator to tell; trouble of this machine is not theirs.
fn failure(error: IndexError) -> Stop {
    match condition_reason(error.reason()) {
        Some(reason) => Stop::Failure(IndexFailure { reason: reason.to_owned(), message: error.to_string() }),
        None => Stop::Error(anyhow::Error::new(error).context("cannot index")),
    }
}

fn source_failure(error: &SourceError) -> IndexFailure {
    let reason = condition_reason(error.reason()).unwrap_or(reasons::ENDPOINT_UNREACHABLE);
    IndexFailure { reason: reason.to_owned(), message: error.to_string() }
}

/// The reason of the condition SourceAvailable for an error of an index; it has fewer reasons than sources have errors.
fn condition_reason(reason: &str) -> Option<&'static str> {
    match reason {
        reasons::SECRET_NOT_FOUND => Some(reasons::SECRET_NOT_FOUND),
        reasons::SECRET_KEYS_MISSING => Some(reasons::SECRET_KEYS_MISSING),
        reasons::CREDENTIALS_REJECTED => Some(reasons::CREDENTIALS_REJECTED),
        // A file or a directory that is not there.
        reasons::BUCKET_NOT_FOUND | "ObjectNotFound" => Some(reasons::BUCKET_NOT_FOUND),
        reasons::SOURCE_DENIED | "SourceInvalid" => Some(reasons::SOURCE_DENIED),
        reasons::TOO_LARGE => Some(reasons::TOO_LARGE),
        reasons::DIGEST_MISMATCH => Some(reasons::DIGEST_MISMATCH),
        "IndexingFailed" => None,
        // No answer, or none that makes sense.
        _ => Some(reasons::ENDPOINT_UNREACHABLE),
    }
}

fn version(assignment: &Assignment, indexed: Indexed, now: Timestamp) -> IndexedVersion {
    let artifact = |name: &str, media_type: &str, stored: &granary_index::Artifact| Artifact {
        name: name.to_owned(),
        media_type: media_type.to_owned(),
        digest: stored.digest.to_string(),
        size_bytes: signed(stored.bytes),
    };
    let skipped = indexed.skipped.iter().map(|skipped| Skipped {
        reason: skipped.reason.as_str().to_owned(),
        count: signed(skipped.count),
        examples: skipped.examples.clone(),
    });
    IndexedVersion {
        listing_digest: indexed.listing_digest.to_string(),
        file_count: signed(indexed.file_count),
        size_bytes: signed(indexed.size_bytes),
        blob: Blob {
            id: indexed.blob_id.clone(),
            size_bytes: signed(indexed.blob_bytes),
            parent_digest: indexed.parent.map(|digest| digest.to_string()),
        },
        artifacts: vec![
            artifact(ARTIFACT_IMAGE, MEDIA_TYPE_IMAGE, &indexed.image),
            artifact(ARTIFACT_EXTENTS, MEDIA_TYPE_EXTENTS, &indexed.extents),
        ],
        sources: assignment.sources.iter().zip(&indexed.sources).map(version_source).collect(),
        skipped: skipped.collect(),
        indexed_time: Time(now),
        indexer_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn version_source((source, found): (&dataset::Source, &SourceSummary)) -> VersionSource {
    VersionSource {
        uri: source.uri.clone(),
        name: source.name.clone(),
        path: source.path.clone(),
        include: source.include.clone(),
        exclude: source.exclude.clone(),
        identity: source.identity,
        s3: source.s3.clone(),
        http: source.http.clone(),
        file_count: signed(found.file_count),
        size_bytes: signed(found.size_bytes),
        pinned_by: match found.pinned_by {
            PinKind::VersionId => PinnedBy::VersionID,
            PinKind::ETag => PinnedBy::ETag,
            PinKind::ModificationTime => PinnedBy::ModificationTime,
            PinKind::SizeOnly => PinnedBy::SizeOnly,
        },
    }
}

/// The API has no unsigned integers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use granary_image::Digest;

    use super::*;

    #[test]
    fn what_the_user_can_mend_is_a_reason_and_trouble_of_this_machine_is_none() {
        let (expected, found) = (Digest::of(b"a"), Digest::of(b"b"));
        let digest = IndexError::Digest { uri: "https://h/".into(), path: "weights".into(), expected, found };
        for (error, reason) in [
            (digest, reasons::DIGEST_MISMATCH),
            (IndexError::Path("../x".into()), reasons::SOURCE_DENIED),
            (SourceError::Timeout { uri: "s3://b/".into(), detail: "x".into() }.into(), reasons::ENDPOINT_UNREACHABLE),
            (
                SourceError::CredentialsRejected { uri: "s3://b/".into(), detail: "x".into() }.into(),
                reasons::CREDENTIALS_REJECTED,
            ),
        ] {
            let message = error.to_string();
            match failure(error) {
                Stop::Failure(failure) => assert_eq!(failure, IndexFailure { reason: reason.to_owned(), message }),
                Stop::Error(error) => panic!("{error:#}"),
            }
        }
        let disk = IndexError::Store { dir: "/work".into(), source: std::io::ErrorKind::StorageFull.into() };
        assert!(matches!(failure(disk), Stop::Error(_)));
    }
}
