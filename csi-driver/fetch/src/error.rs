//! What can go wrong with a source.

use std::net::IpAddr;

use crate::SecretKeys;

/// Why a source could not be listed or read. Messages say what to do next and never hold a credential.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceError {
    /// The configuration makes no sense.
    #[error("source '{uri}' cannot be used: {message}")]
    Invalid {
        /// The source.
        uri: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// The Secret that the Dataset names is not there.
    #[error(
        "there is no Secret for source '{uri}': create the Secret that spec.credentials.secretRef names, or set identity: Anonymous"
    )]
    SecretNotFound {
        /// The source.
        uri: String,
    },
    /// The Secret lacks keys.
    #[error("the Secret for source '{uri}' has no key {}: add it (keys that it has: {found})", missing.join(", "))]
    SecretKeysMissing {
        /// The source.
        uri: String,
        /// Names of the keys wanted.
        missing: Vec<String>,
        /// Names of the keys that are there.
        found: String,
    },
    /// The source refused the request for want of rights.
    #[error(
        "source '{uri}' refused the request ({detail}): check the keys in the Secret, and that they may list and read this place"
    )]
    CredentialsRejected {
        /// The source.
        uri: String,
        /// HTTP status and the service's error code.
        detail: String,
    },
    /// The bucket does not exist.
    #[error("the bucket of source '{uri}' does not exist: check its name, the endpoint and the region")]
    BucketNotFound {
        /// The source.
        uri: String,
    },
    /// No connection could be made.
    #[error(
        "source '{uri}' cannot be reached ({detail}): check the endpoint, name resolution, network policies, and ca.crt of the Secret if it has its own authority"
    )]
    EndpointUnreachable {
        /// The source.
        uri: String,
        /// What failed.
        detail: String,
    },
    /// The class forbids what the source needs.
    #[error("source '{uri}' is not allowed here: {message}")]
    SourceDenied {
        /// The source.
        uri: String,
        /// What is forbidden and who can allow it.
        message: String,
    },
    /// More than this release can hold.
    #[error("source '{uri}' is too large: {message}")]
    TooLarge {
        /// The source.
        uri: String,
        /// The limit.
        message: String,
    },
    /// The object is another than the pinned one.
    #[error("'{}' of source '{uri}' is no longer the object that was pinned ({detail}): refresh the Dataset to get a version with the new object", key.escape_debug())]
    ObjectChanged {
        /// The source.
        uri: String,
        /// The object's key.
        key: String,
        /// What differed.
        detail: String,
    },
    /// The object is gone.
    #[error("'{}' of source '{uri}' does not exist: refresh the Dataset if it was deleted on purpose, or write '{uri}/' if a directory was meant", key.escape_debug())]
    ObjectNotFound {
        /// The source.
        uri: String,
        /// The object's key.
        key: String,
    },
    /// The answer took too long.
    #[error("source '{uri}' did not answer in time ({detail}); it is tried again")]
    Timeout {
        /// The source.
        uri: String,
        /// What was waited for.
        detail: String,
    },
    /// The source says that it cannot serve now, or the connection broke.
    #[error("source '{uri}' failed ({detail}); it is tried again")]
    Unavailable {
        /// The source.
        uri: String,
        /// HTTP status or what broke.
        detail: String,
    },
    /// The answer is not what was asked for.
    #[error("source '{uri}' gave a wrong answer for '{}' ({detail}): its bytes were not used; the server must honour Range and If-Match requests", key.escape_debug())]
    BadAnswer {
        /// The source.
        uri: String,
        /// The object's key.
        key: String,
        /// What differed.
        detail: String,
    },
    /// The bytes are not those that the source itself says the object has.
    #[error("the bytes that source '{uri}' gave for '{}' do not have its own checksum ({detail}): they were not used; if it stays so, the object is damaged there", key.escape_debug())]
    ChecksumMismatch {
        /// The source.
        uri: String,
        /// The object's key.
        key: String,
        /// Which checksum, and both of its values.
        detail: String,
    },
    /// It failed for so long that it is left alone for a while.
    #[error("source '{uri}' has failed for long ({last}), so reads of it fail at once; it is tried again {when}")]
    Down {
        /// The source.
        uri: String,
        /// How it failed last.
        last: String,
        /// When it is tried again.
        when: String,
    },
}

impl SourceError {
    /// The reason of a condition or of a read error: a word in CamelCase that never changes.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "SourceInvalid",
            Self::SecretNotFound { .. } => "SecretNotFound",
            Self::SecretKeysMissing { .. } => "SecretKeysMissing",
            Self::CredentialsRejected { .. } => "CredentialsRejected",
            Self::BucketNotFound { .. } => "BucketNotFound",
            Self::EndpointUnreachable { .. } => "EndpointUnreachable",
            Self::SourceDenied { .. } => "SourceDenied",
            Self::TooLarge { .. } => "TooLarge",
            Self::ObjectChanged { .. } => "ObjectChanged",
            Self::ObjectNotFound { .. } => "ObjectNotFound",
            Self::Timeout { .. } => "SourceTimeout",
            Self::Unavailable { .. } => "SourceUnavailable",
            Self::BadAnswer { .. } => "BadAnswer",
            Self::ChecksumMismatch { .. } => "ChecksumMismatch",
            Self::Down { .. } => "SourceDown",
        }
    }

    /// Whether the same request may succeed a moment later. A refusal of the credentials does not count: mostly it is meant.
    /// Only [`read_retrying`](crate::read_retrying) tries it again, a few times.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::EndpointUnreachable { .. }
            | Self::Timeout { .. }
            | Self::Unavailable { .. }
            | Self::BadAnswer { .. }
            | Self::ChecksumMismatch { .. } => true,
            Self::Invalid { .. }
            | Self::SecretNotFound { .. }
            | Self::SecretKeysMissing { .. }
            | Self::CredentialsRejected { .. }
            | Self::BucketNotFound { .. }
            | Self::SourceDenied { .. }
            | Self::TooLarge { .. }
            | Self::ObjectChanged { .. }
            | Self::ObjectNotFound { .. }
            // It is what all tries together have come to.
            | Self::Down { .. } => false,
        }
    }

    /// Whether bytes came that are not those of the object: nothing of the answer may be used, and another may be right.
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::BadAnswer { .. } | Self::ChecksumMismatch { .. })
    }

    /// What happened, without the advice; "" where the advice is all.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::CredentialsRejected { detail, .. }
            | Self::EndpointUnreachable { detail, .. }
            | Self::ObjectChanged { detail, .. }
            | Self::Timeout { detail, .. }
            | Self::Unavailable { detail, .. }
            | Self::BadAnswer { detail, .. }
            | Self::ChecksumMismatch { detail, .. } => detail,
            Self::Invalid { message, .. } | Self::SourceDenied { message, .. } | Self::TooLarge { message, .. } => {
                message
            }
            Self::Down { last, .. } => last,
            Self::SecretNotFound { .. }
            | Self::SecretKeysMissing { .. }
            | Self::BucketNotFound { .. }
            | Self::ObjectNotFound { .. } => "",
        }
    }

    /// Whether the object is certainly not the pinned one any more: no retry and no other node can help.
    pub fn is_changed(&self) -> bool {
        matches!(self, Self::ObjectChanged { .. } | Self::ObjectNotFound { .. })
    }

    pub(crate) fn invalid(uri: &str, message: impl Into<String>) -> Self {
        Self::Invalid { uri: uri.to_owned(), message: message.into() }
    }

    /// Some of the keys wanted are not in the Secret, or there is no Secret at all.
    pub(crate) fn keys_missing(uri: &str, keys: &SecretKeys, wanted: &[(&str, Option<&str>)]) -> Self {
        let uri = uri.to_owned();
        if keys.is_empty() {
            return Self::SecretNotFound { uri };
        }
        let missing = wanted.iter().filter(|(_, value)| value.is_none()).map(|&(key, _)| key.to_owned()).collect();
        Self::SecretKeysMissing { uri, missing, found: keys.to_string() }
    }

    pub(crate) fn denied(uri: &str, message: impl Into<String>) -> Self {
        Self::SourceDenied { uri: uri.to_owned(), message: message.into() }
    }

    pub(crate) fn address_denied(uri: &str, address: IpAddr) -> Self {
        Self::denied(
            uri,
            format!(
                "the address {address} means this machine, its link or a metadata service; an administrator can allow it in sourcePolicy.allowedNetworks of the DataStorageClass"
            ),
        )
    }
}
