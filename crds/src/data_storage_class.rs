//! `DataStorageClass`: what a platform engineer writes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// The cache of a class, and what its Datasets may read.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "DataStorageClass",
    plural = "datastorageclasses",
    status = "DataStorageClassStatus",
    shortname = "dsc",
    category = "granary",
    derive = "PartialEq",
    doc = "How nodes cache the Datasets of a class and what these may read. The operator keeps a StorageClass of the same name.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Max-Size","type":"string","jsonPath":".spec.cache.maxSize"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DataStorageClassSpec {
    /// The cache on each node.
    #[serde(default)]
    #[x_kube(validation = rules::fixed_cache_path())]
    pub cache: CacheSpec,
    /// What Datasets of this class may read through the node's network and rights.
    #[serde(default)]
    pub source_policy: SourcePolicy,
}

/// The cache on each node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheSpec {
    /// Directory below the chart's cache root; no two classes share one. Without it, the class's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rules::relative_path())]
    pub path: Option<String>,
    /// Hard limit per node. Without it, the cache is bounded by the floor of free space only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::cache_size())]
    pub max_size: Option<Quantity>,
    /// Floor of free space on that filesystem, in percent; above the kubelet's image collection (15) and eviction (10).
    #[serde(default = "default_min_free_percent")]
    #[schemars(range(min = 0, max = 90))]
    pub min_free_percent: i32,
    /// The same as a size; the stricter one holds.
    #[serde(default = "default_min_free")]
    #[x_kube(validation = rules::free_size())]
    pub min_free: Quantity,
}

fn default_min_free_percent() -> i32 {
    20
}

fn default_min_free() -> Quantity {
    Quantity("0".to_owned())
}

impl Default for CacheSpec {
    fn default() -> Self {
        Self { path: None, max_size: None, min_free_percent: default_min_free_percent(), min_free: default_min_free() }
    }
}

/// What Datasets of a class may read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SourcePolicy {
    /// Whether `file://` is allowed, below the read-only roots that the chart names.
    #[serde(default)]
    pub file_sources: Permission,
    /// Whether `identity: Ambient` is allowed: it lends the node's rights to every author of a Dataset.
    #[serde(default)]
    pub ambient_identity: Permission,
    /// Exceptions from what is refused after name resolution: loopback, link-local, metadata services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::networks")]
    pub allowed_networks: Vec<String>,
}

/// Whether something is allowed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// It is refused.
    #[default]
    Deny,
    /// It is allowed.
    Allow,
    /// A value that this release does not know: take it for Deny. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Permission {
    /// Whether it is allowed; what is not known is not allowed.
    pub fn is_allowed(self) -> bool {
        self == Self::Allow
    }
}

/// What the operator says about a class.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DataStorageClassStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
