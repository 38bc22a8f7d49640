//! `DatasetVersion`: one immutable version of a Dataset, written by the operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataset::{HttpOptions, S3Options, SourceIdentity};
use crate::{patterns, rules, schema};

/// What a version contains. Immutable.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "DatasetVersion",
    namespaced,
    status = "DatasetVersionStatus",
    shortname = "dsv",
    category = "granary",
    derive = "PartialEq",
    doc = "One immutable version of a Dataset: what it contains, where it came from, and what the image store holds of it. Written by the operator.",
    printcolumn = r#"{"name":"Dataset","type":"string","jsonPath":".spec.datasetName"}"#,
    printcolumn = r#"{"name":"Revision","type":"integer","jsonPath":".spec.revision"}"#,
    printcolumn = r#"{"name":"Current","type":"string","jsonPath":".status.conditions[?(@.type==\"Current\")].status"}"#,
    printcolumn = r#"{"name":"Files","type":"integer","jsonPath":".spec.fileCount"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = rules::fixed_version())]
#[serde(rename_all = "camelCase")]
pub struct DatasetVersionSpec {
    /// The Dataset.
    #[schemars(length(min = 1, max = 52), regex(pattern = patterns::DNS_LABEL))]
    pub dataset_name: String,
    /// Order of creation.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// Digest of the canonical listing: path, size and pin of every file; independent of the blob.
    #[schemars(length(max = 71), regex(pattern = patterns::DIGEST))]
    pub listing_digest: String,
    /// Files.
    #[schemars(range(min = 0))]
    pub file_count: i64,
    /// Sum of their sizes, in bytes.
    #[schemars(range(min = 0))]
    pub size_bytes: i64,
    /// The address space that the image points into.
    pub blob: Blob,
    /// What the image store holds, by content address; where it lies is not said here.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub artifacts: Vec<Artifact>,
    /// Where it came from; never a credential.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub sources: Vec<VersionSource>,
    /// Keys that could not become files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reason".into()]))]
    pub skipped: Vec<Skipped>,
    /// When the listing was complete.
    pub indexed_time: Time,
    /// Release that built it.
    #[schemars(length(min = 1, max = 63))]
    pub indexer_version: String,
}

impl DatasetVersionSpec {
    /// The artifact of this name, such as [`ARTIFACT_IMAGE`].
    pub fn artifact(&self, name: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.name == name)
    }
}

/// Name of the artifact that is mounted. Every version has it.
pub const ARTIFACT_IMAGE: &str = "image";
/// Name of the artifact that says which object lies where in the blob. Every version has it.
pub const ARTIFACT_EXTENTS: &str = "extents";

/// A dataset's linear address space.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// Random; names the node's cache.
    #[schemars(length(min = 1, max = 63))]
    pub id: String,
    /// Length that this version needs, in bytes.
    #[schemars(range(min = 0))]
    pub size_bytes: i64,
    /// The extent table that this version's extends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = patterns::DIGEST))]
    pub parent_digest: Option<String>,
}

/// Something that the image store holds.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// `image` and `extents` always.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Format and its version: readers refuse what they do not know.
    #[schemars(length(min = 1, max = 255))]
    pub media_type: String,
    /// Content address.
    #[schemars(length(max = 71), regex(pattern = patterns::DIGEST))]
    pub digest: String,
    /// Length, in bytes.
    #[schemars(range(min = 0))]
    pub size_bytes: i64,
}

/// One source as it was when the version was made: the version stays readable when the Dataset's spec changes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VersionSource {
    /// The source.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
    /// Its name, and prefix of its keys in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub name: Option<String>,
    /// Directory of the dataset in which it appears; absent: the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Globs of what was taken; absent: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub include: Vec<String>,
    /// Globs of what was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub exclude: Vec<String>,
    /// As whom it is read; absent: with the keys of the Secret if there is one, else anonymously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional::<SourceIdentity>")]
    pub identity: Option<SourceIdentity>,
    /// Options of an s3 source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Options>,
    /// Options of an http or https source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpOptions>,
    /// Files of this source.
    #[schemars(range(min = 0))]
    pub file_count: i64,
    /// Sum of their sizes, in bytes.
    #[schemars(range(min = 0))]
    pub size_bytes: i64,
    /// How files are tied to their bytes; ModificationTime and SizeOnly are weak.
    pub pinned_by: PinnedBy,
}

/// How files are tied to their bytes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedBy {
    /// By the store's version ids.
    VersionID,
    /// By entity tags.
    ETag,
    /// By the time of their last change; weak.
    ModificationTime,
    /// By their size alone; weak.
    SizeOnly,
    /// A value that this release does not know. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Keys that could not become files, for one reason.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// UnusableName, NameTooLong, FileAndFolder, ...
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// How many.
    #[schemars(range(min = 1))]
    pub count: i64,
    /// Some of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub examples: Vec<String>,
}

/// What the operator says about a version.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatasetVersionStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it was last current: history is pruned by this, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_current_time: Option<Time>,
    /// Ready, Current, SourceUnchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
