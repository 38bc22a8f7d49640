//! `Dataset`: what a user writes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{patterns, rules, schema};

mod source;

pub use source::{HttpFile, HttpOptions, S3Addressing, S3Options, S3PinBy, Source, SourceIdentity};

/// What a dataset is made of, and which version of it pods get.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "Dataset",
    namespaced,
    status = "DatasetStatus",
    shortname = "dset",
    category = "granary",
    derive = "PartialEq",
    doc = "Names data in object stores, on web servers or in directories; Granary turns it into immutable versions and into a claim of the Dataset's name that pods mount.",
    validation = rules::dataset_name(),
    validation = rules::fixed_secret(),
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.currentVersion.name"}"#,
    printcolumn = r#"{"name":"Files","type":"integer","jsonPath":".status.currentVersion.fileCount"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.currentVersion.size"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Class","type":"string","priority":1,"jsonPath":".spec.storageClassName"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DatasetSpec {
    /// What the dataset is made of.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = rules::separate_paths(),
        validation = rules::different_names()
    )]
    pub sources: Vec<Source>,
    /// Where the keys of the sources are. Without it, sources are read without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// The DataStorageClass, and the StorageClass of the same name.
    #[serde(default = "default_storage_class")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_SUBDOMAIN))]
    #[x_kube(validation = rules::fixed_class())]
    pub storage_class_name: String,
    /// When to look at the sources again. Without it, only when `sources` or `credentials` change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
    /// Which version new pods get. Without it, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// Old versions kept; the current one, pinned ones and those in use are kept besides.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 1000))]
    pub revision_history_limit: i32,
    /// Whether every node on which a version is mounted fills its cache with the whole version, in the background: what pods read comes
    /// first, and the limits of the node's cache hold. It is read when a pod starts, and a change makes no new version.
    #[serde(default)]
    pub preload: bool,
}

fn default_storage_class() -> String {
    crate::names::DEFAULT_STORAGE_CLASS.to_owned()
}

fn default_history() -> i32 {
    10
}

/// Where the keys of the sources are: exactly one member.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = rules::credentials_union())]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The one Secret with the keys of all sources. It must not change once the claim exists; the keys in it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A Secret of the Dataset's namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret. Keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, ca.crt; username, password, token.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_SUBDOMAIN))]
    pub name: String,
}

/// When to look at the sources again.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Refresh {
    /// Look this often, in seconds; also under a pin, where new versions only become `latestVersion`. Without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31536000))]
    pub period_seconds: Option<i64>,
    /// Any change of this text looks once; `status.refresh.lastManual` repeats it when that has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub manual: Option<String>,
}

/// Which version new pods get: exactly one member.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = rules::pin_union())]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Name of a DatasetVersion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub version: Option<String>,
    /// A listing digest: the same in every cluster that reads the same source (etags and version ids are part of it). If no version
    /// has it, the sources are indexed once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = patterns::DIGEST))]
    pub digest: Option<String>,
}

/// What the operator says about a Dataset.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatasetStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What a pod gets that starts now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<VersionSummary>,
    /// The newest that exists; differs from `currentVersion` under a pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_version: Option<VersionSummary>,
    /// The claim that was made; one of the same name with another UID is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimStatus>,
    /// Looks at the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshStatus>,
    /// Ready, SourceAvailable, SourceUnchanged, ContentComplete, StronglyPinned, ClaimBound; Reconciling and Stalled while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A version, as a Dataset's status shows it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VersionSummary {
    /// The DatasetVersion.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Digest of its listing.
    #[schemars(length(max = 71), regex(pattern = patterns::DIGEST))]
    pub listing_digest: String,
    /// Its number.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// Files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<i64>,
    /// Exact sum of their sizes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// The same rounded up to at most four digits, for the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
}

/// The claim of a Dataset.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// Name of the PersistentVolumeClaim.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 63))]
    pub uid: String,
}

/// Looks at the sources of a Dataset.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RefreshStatus {
    /// The last `spec.refresh.manual` that has succeeded, also if nothing had changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_manual: Option<String>,
    /// Last complete look at the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// Next one planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
}
