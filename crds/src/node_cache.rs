//! `NodeCache`: what a node reports. No file names, no pod names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A node's own report: cache space, cached datasets, and to how many pods each version is published. Named like the Node.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "granary.dev",
    version = "v1alpha1",
    kind = "NodeCache",
    plural = "nodecaches",
    no_spec,
    status = "NodeCacheStatus",
    shortname = "ndc",
    category = "granary",
    derive = "PartialEq",
    doc = "A node's own report: cache space, cached datasets, and to how many pods each version is published. Named like the Node.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Layout","type":"string","jsonPath":".status.layout"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct NodeCacheSpec {}

/// What a node reports.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeCacheStatus {
    /// Generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When this was written: on change, at most every 15 s, at least every 5 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_time: Option<Time>,
    /// Best layout that this kernel has, or the one that was chosen for the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional::<Layout>")]
    pub layout: Option<Layout>,
    /// Cache space, one for each class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["className".into()]))]
    pub pools: Vec<PoolReport>,
    /// What is cached and published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["uid".into()]))]
    pub datasets: Vec<DatasetReport>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How a version is mounted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// EROFS on files, without loop devices.
    EROFSFile,
    /// EROFS on loop devices.
    EROFSLoop,
    /// A FUSE filesystem, for kernels without EROFS or loop devices.
    FUSE,
    /// A value that this release does not know. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Cache space of one class.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PoolReport {
    /// The DataStorageClass.
    #[schemars(length(min = 1, max = 253))]
    pub class_name: String,
    /// Most that may be used now, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub limit_bytes: Option<i64>,
    /// Used, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub used_bytes: Option<i64>,
    /// Free on that filesystem, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub free_bytes: Option<i64>,
}

/// One dataset on a node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DatasetReport {
    /// UID of the Dataset.
    #[schemars(length(min = 1, max = 63))]
    pub uid: String,
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Cached, in bytes.
    #[schemars(range(min = 0))]
    pub cached_bytes: i64,
    /// Versions that are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub versions: Vec<VersionReport>,
    /// Reads that failed, by reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reason".into()]))]
    pub read_errors: Vec<ReadErrorReport>,
}

/// One version on a node.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VersionReport {
    /// The DatasetVersion.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// To how many pods it is published.
    #[schemars(range(min = 0))]
    pub pod_count: i32,
    /// Not cached yet, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub missing_bytes: Option<i64>,
    /// How it is mounted now. EROFSFile: on the cache's files, since it was complete when it was mounted; EROFSLoopNative: by loop
    /// devices on the cache's files, since all of it is cached; EROFSLoopFUSE: by a FUSE file that fetches what is missing; FUSE: as a
    /// filesystem of the node process, since the kernel cannot or since that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional::<MountLayout>")]
    pub layout: Option<MountLayout>,
}

/// How a version is mounted at this moment. Only the last two need the node process for reading.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountLayout {
    /// EROFS on the image and the cache's file themselves.
    EROFSFile,
    /// EROFS on loop devices, the blob's over the cache's file.
    EROFSLoopNative,
    /// EROFS on loop devices, the blob's over a FUSE file.
    EROFSLoopFUSE,
    /// A FUSE filesystem.
    FUSE,
    /// A value that this release does not know. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl MountLayout {
    /// Those that are written, each with its name.
    pub const NAMES: [(Self, &str); 4] = [
        (Self::EROFSFile, "EROFSFile"),
        (Self::EROFSLoopNative, "EROFSLoopNative"),
        (Self::EROFSLoopFUSE, "EROFSLoopFUSE"),
        (Self::FUSE, "FUSE"),
    ];
}

/// Reads that failed for one reason.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReadErrorReport {
    /// Why, as a reason of a condition: ObjectChanged, CredentialsRejected, EndpointUnreachable, ...
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// How many, since the node process started.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// The last one, to the microsecond: whether it came after a listing of the same second matters.
    pub last_time: MicroTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_called_what_they_are_written_as() {
        for (layout, name) in MountLayout::NAMES {
            assert_eq!(serde_json::to_value(layout).unwrap(), name);
        }
        assert_eq!(serde_json::from_value::<MountLayout>("EROFSLater".into()).unwrap(), MountLayout::Unknown);
    }

    /// A read that failed in the second in which the source was listed is news, if it came after.
    #[test]
    fn the_time_of_a_read_error_keeps_its_fraction_of_a_second() {
        let time = "2026-11-25T08:06:15.763380Z";
        let report = serde_json::json!({"reason": "ObjectChanged", "count": 1, "lastTime": time});
        let parsed: ReadErrorReport = serde_json::from_value(report.clone()).unwrap();
        assert_eq!(parsed.last_time.0.subsec_microsecond(), 763_380);
        assert_eq!(serde_json::to_value(parsed).unwrap(), report);
        let whole = serde_json::json!({"reason": "ObjectChanged", "count": 1, "lastTime": "2026-11-25T08:06:15Z"});
        serde_json::from_value::<ReadErrorReport>(whole).expect("what an older node wrote");
    }
}
