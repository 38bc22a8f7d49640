//! What a Dataset says about one of its sources.

use granary_image::{Digest, SourceId};
use serde::{Deserialize, Serialize};

/// One source of a dataset; the fields are those of `spec.sources[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceConfig {
    /// `s3://bucket/prefix/`, `https://host/file`, `https://host/dir/` or `file:///dir`. Never holds a credential.
    pub uri: String,
    /// For messages, and the prefix of this source's own keys in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Directory of the dataset in which the source appears; `None` is the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Globs on the key below the source; empty means everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Globs that win over `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whose rights are used.
    #[serde(default)]
    pub identity: Identity,
    /// Options of `s3://` sources.
    #[serde(default)]
    pub s3: S3Options,
    /// Options of `http(s)://` sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpOptions>,
}

impl SourceConfig {
    /// The id under which extent tables know this source.
    pub fn id(&self) -> SourceId {
        SourceId::of(&self.uri, self.s3.endpoint.as_deref())
    }
}

/// Whose rights a source is read with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// The keys of the dataset's Secret.
    Secret,
    /// Nobody's: requests are not signed.
    #[default]
    Anonymous,
    /// The machine's own: environment, profile, web identity, instance metadata.
    Ambient,
}

/// Options of an `s3://` source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct S3Options {
    /// URL of an S3 service; `None` is AWS.
    pub endpoint: Option<String>,
    /// Region that requests are signed for; `None` is `us-east-1`.
    pub region: Option<String>,
    /// Where the bucket's name goes; `None` is `Path` with an endpoint and `VirtualHost` without.
    pub addressing: Option<Addressing>,
    /// What ties a key to its bytes.
    pub pin_by: PinBy,
}

/// Where a request names the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    VirtualHost,
}

/// What ties a key of an S3 source to its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PinBy {
    /// The entity tag: a replaced object is noticed.
    #[default]
    ETag,
    /// The version id: a replaced object stays readable. Needs a versioned bucket and the right to list versions.
    VersionID,
}

/// Options of an `http(s)://` source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpOptions {
    /// The index of a directory, which HTTP cannot list.
    pub files: Vec<HttpFile>,
}

/// One file of an HTTP directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpFile {
    /// Relative to the source's URI, and the file's key.
    pub path: String,
    /// Expected content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}
