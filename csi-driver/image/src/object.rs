//! The vocabulary shared by listing, extent table and fetching.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Names a source inside an extent table without naming its address: the first 16 bytes of SHA-256 over
/// `uri`, a zero byte, and the endpoint ("" for the scheme's own). Two versions that read the same place share extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceId(pub [u8; 16]);

impl SourceId {
    /// The id of the source at `uri` behind `endpoint`.
    pub fn of(uri: &str, endpoint: Option<&str>) -> Self {
        let mut hash = Sha256::new();
        hash.update(uri.as_bytes());
        hash.update([0]);
        hash.update(endpoint.unwrap_or_default().as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// How firmly a pin ties a name to its bytes, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum PinKind {
    /// The store keeps this very version under its id.
    VersionId = 1,
    /// A strong entity tag; a changed object has another.
    ETag = 2,
    /// The time of the last change: weak.
    ModificationTime = 3,
    /// Nothing but the size is known: weak.
    SizeOnly = 4,
}

/// What ties an object's key to the bytes that were listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin {
    /// What `value` is.
    pub kind: PinKind,
    /// Version id, entity tag with its quotes as the source gave it, RFC 3339 time with nanoseconds, or "".
    pub value: String,
}

/// One object of a source, as it was listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// The source that has it.
    pub source: SourceId,
    /// Key below the source's URI: for `s3://bucket/prefix/` what follows the prefix; "" when the URI names the object itself.
    pub key: String,
    /// Ties the key to its bytes.
    pub pin: Pin,
    /// Length in bytes.
    pub size: u64,
}
