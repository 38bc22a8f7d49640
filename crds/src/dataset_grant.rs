//! `DatasetGrant`: what a data owner writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{patterns, rules, schema};

/// Which dataset is granted to whom, and until when.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "DatasetGrant",
    namespaced,
    status = "DatasetGrantStatus",
    shortname = "dsg",
    category = "granary",
    derive = "PartialEq",
    doc = "Lets pods of other namespaces mount a Dataset of this namespace. Pods of its own namespace need no grant.",
    printcolumn = r#"{"name":"Dataset","type":"string","jsonPath":".spec.datasetRef.name"}"#,
    printcolumn = r#"{"name":"Active","type":"string","jsonPath":".status.conditions[?(@.type==\"Active\")].status"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".spec.expirationTime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DatasetGrantSpec {
    /// One dataset of this namespace. It cannot be changed.
    #[x_kube(validation = rules::fixed_grant())]
    pub dataset_ref: DatasetRef,
    /// Who may mount it.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub subjects: Vec<Subject>,
    /// Mounts after it are refused. Without it, the grant holds until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// Further conditions, all must hold. A node refuses a mount under a type that it does not know. No type is defined yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub restrictions: Vec<Restriction>,
}

/// A Dataset of the grant's namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatasetRef {
    /// Name of the Dataset.
    #[schemars(length(min = 1, max = 52), regex(pattern = patterns::DNS_LABEL))]
    pub name: String,
}

/// Who may mount a dataset.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = rules::subject_namespace())]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Every pod of a namespace, or the pods of one service account.
    pub kind: SubjectKind,
    /// Name of the namespace or of the service account.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_SUBDOMAIN))]
    pub name: String,
    /// Namespace of the service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
}

/// Kind of a subject.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// Every pod of a namespace.
    Namespace,
    /// The pods of one service account.
    ServiceAccount,
    /// A value that this release does not know: it matches nobody. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A further condition of a grant.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Restriction {
    /// What is restricted.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::CAMEL_CASE))]
    pub type_: String,
}

/// What the operator says about a grant.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatasetGrantStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
