//! One source of a Dataset.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{patterns, rules, schema};

/// One source of a Dataset.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = rules::known_scheme(),
    validation = rules::no_credentials(),
    validation = rules::no_query(),
    validation = rules::identity_has_network(),
    validation = rules::s3_for_s3(),
    validation = rules::http_for_directories()
)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `s3://bucket/prefix/`, `https://host/file`, `https://host/dir/` or `file:///dir`. An s3 key is taken literally.
    #[schemars(length(min = 1, max = 2048))]
    pub uri: String,
    /// For messages, and the prefix of this source's own keys in the Secret: `labels.AWS_ACCESS_KEY_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub name: Option<String>,
    /// Directory of the dataset in which this source appears. Without it, the root of the dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = rules::relative_path())]
    pub path: Option<String>,
    /// Globs on the path below the source (`**`, `*`, `?`, `{a,b}`). Without it, everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub include: Vec<String>,
    /// Globs of what is left out; `exclude` wins over `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub exclude: Vec<String>,
    /// As whom to read. Without it, with the keys of the Secret if there is one, else anonymously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional::<SourceIdentity>")]
    pub identity: Option<SourceIdentity>,
    /// Options of s3 sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Options>,
    /// Options of http and https sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpOptions>,
}

/// As whom a source is read.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceIdentity {
    /// As nobody, even if there is a Secret.
    Anonymous,
    /// As the machine; only if the class allows it.
    Ambient,
    /// A value that this release does not know: do not read the source. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Options of s3 sources.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = rules::endpoint())]
#[serde(rename_all = "camelCase")]
pub struct S3Options {
    /// URL of another S3 service. Without it, AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub endpoint: Option<String>,
    /// Region of the bucket. Without it, us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// How the bucket is named in requests. Without it, Path if `endpoint` is set, else VirtualHost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional::<S3Addressing>")]
    pub addressing: Option<S3Addressing>,
    /// How files are tied to their bytes. Without it, ETag. VersionID needs a versioned bucket and the right to list versions, and
    /// survives overwriting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional::<S3PinBy>")]
    pub pin_by: Option<S3PinBy>,
}

/// How the bucket is named in requests.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Addressing {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    VirtualHost,
    /// A value that this release does not know: do not read the source. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How objects are tied to their bytes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3PinBy {
    /// By entity tag: an overwritten object cannot be read any more.
    ETag,
    /// By version id: an overwritten object can still be read.
    VersionID,
    /// A value that this release does not know: do not read the source. Never written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Options of http and https sources.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpOptions {
    /// Index of a directory that cannot be listed. Above 256 KiB apply with `--server-side`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub files: Vec<HttpFile>,
}

/// One file of an http source.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpFile {
    /// Relative to `uri`, and the file's path in the dataset; without `.`, `..` or empty parts.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::RELATIVE_PATH))]
    pub path: String,
    /// Expected content; another content is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = patterns::DIGEST))]
    pub digest: Option<String>,
}
