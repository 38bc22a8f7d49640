//! The HTTP contract between the operator's image store and its clients: index Jobs and nodes.
//!
//! TLS with the operator's own CA; every request has `Authorization: Bearer <token>`, a projected token of audience
//! [`crate::names::TOKEN_AUDIENCE`]. Bodies are JSON, artifacts are bytes (`application/octet-stream`).
//!
//! | request | who | answer |
//! |---|---|---|
//! | `GET /v1/assignment` | the Job that the operator made | 200 [`Assignment`] |
//! | `GET /v1/artifacts/{digest}` | that Job: its parent's only; a node: any | 200 and the bytes, with `Content-Encoding: zstd` only for who accepts it |
//! | `PUT /v1/artifacts/{digest}` | that Job | 201, or 200 if it is there already; the body, as it is or with `Content-Encoding: zstd`, is received either way; the content of what is new must have that digest |
//! | `POST /v1/result` | that Job | 200; the body is an [`IndexResult`] |
//!
//! Errors: 400 body or digest is wrong; 401 no token, or not a valid one; 403 a valid token of somebody else; 404 no such artifact, or no
//! assignment (any more); 409 the parent is no longer the newest table of its blob: start again from `GET /v1/assignment`; 413 an
//! artifact is too large; 415 a `Content-Encoding` that the store does not know; 507 the store is full. The body of an error is a
//! [`Problem`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use crate::data_storage_class::SourcePolicy;
use crate::dataset::Source;
use crate::dataset_version::{Artifact, Blob, Skipped, VersionSource};

pub mod coding;

/// Path of the Job's assignment.
pub const ASSIGNMENT_PATH: &str = "/v1/assignment";
/// Prefix of the path of an artifact; the digest (`sha256:<hex>`) follows.
pub const ARTIFACTS_PREFIX: &str = "/v1/artifacts/";
/// Path to which a Job posts its result.
pub const RESULT_PATH: &str = "/v1/result";

/// Media type of an EROFS metadata image.
pub const MEDIA_TYPE_IMAGE: &str = "application/vnd.granary.image.erofs.v1";
/// Media type of an extent table.
pub const MEDIA_TYPE_EXTENTS: &str = "application/vnd.granary.extents.v1";

/// Path of the artifact with this digest.
pub fn artifact_path(digest: &str) -> String {
    format!("{ARTIFACTS_PREFIX}{digest}")
}

/// What a Job shall index.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Namespace of the Dataset.
    pub dataset_namespace: String,
    /// Its name.
    pub dataset_name: String,
    /// Its UID.
    pub dataset_uid: String,
    /// What to list.
    pub sources: Vec<Source>,
    /// Where the Job finds the keys of the sources.
    pub credentials: AssignedCredentials,
    /// What the sources may be.
    pub source_policy: SourcePolicy,
    /// The table to extend; none: a new blob begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Id of the blob that begins when there is no parent, or when the parent's table cannot be read.
    pub new_blob_id: String,
}

/// Where a Job finds the keys of the sources.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignedCredentials {
    /// The Dataset names no Secret.
    None,
    /// The Dataset's Secret is mounted into the Job. An empty mount: the Secret does not exist.
    Secret,
}

/// The newest extent table of a dataset's blob.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// The blob.
    pub blob_id: String,
    /// Its table.
    pub extents: ArtifactRef,
}

/// A content address with what a reader must know before it fetches.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRef {
    /// `sha256:<hex>`
    pub digest: String,
    /// Length, in bytes.
    pub size_bytes: i64,
    /// Format and its version.
    pub media_type: String,
}

/// What a Job found.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum IndexResult {
    /// The listing is complete and its artifacts are stored.
    Ok(Box<IndexedVersion>),
    /// It could not be done.
    Failed(IndexFailure),
}

/// What a DatasetVersion is made of; the operator adds the dataset's name and the revision.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IndexedVersion {
    /// Digest of the canonical listing.
    pub listing_digest: String,
    /// Files.
    pub file_count: i64,
    /// Sum of their sizes, in bytes.
    pub size_bytes: i64,
    /// The address space, and the parent that was extended.
    pub blob: Blob,
    /// What was stored.
    pub artifacts: Vec<Artifact>,
    /// The sources with what was found there.
    pub sources: Vec<VersionSource>,
    /// Keys that could not become files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// When the listing was complete.
    pub indexed_time: Time,
    /// Release of the indexer.
    pub indexer_version: String,
}

/// Why a listing could not be made.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IndexFailure {
    /// A reason of the condition `SourceAvailable`, see [`crate::conditions::reasons`].
    pub reason: String,
    /// What to do about it; never a credential.
    pub message: String,
}

/// Body of an error.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What was refused, and what to do about it.
    pub message: String,
}
