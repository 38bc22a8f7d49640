//! Condition types and reasons. A message says what to do next; a reason is for programs, and does not change.

/// Types of conditions.
pub mod types {
    /// All kinds. Of a Dataset: a mountable current version exists.
    pub const READY: &str = "Ready";
    /// Dataset: the last look at the sources succeeded.
    pub const SOURCE_AVAILABLE: &str = "SourceAvailable";
    /// Dataset and DatasetVersion: no read has found another object than the pinned one.
    pub const SOURCE_UNCHANGED: &str = "SourceUnchanged";
    /// Dataset: every key of the sources is a file of the current version. A warning if False.
    pub const CONTENT_COMPLETE: &str = "ContentComplete";
    /// Dataset: every file is tied to its bytes by an etag or a version id. A warning if False.
    pub const STRONGLY_PINNED: &str = "StronglyPinned";
    /// Dataset: the claim of its name is bound.
    pub const CLAIM_BOUND: &str = "ClaimBound";
    /// Dataset: the first index, or one after a change of spec, is under way. Absent unless True.
    pub const RECONCILING: &str = "Reconciling";
    /// Dataset: the third attempt has failed. Absent unless True.
    pub const STALLED: &str = "Stalled";
    /// DatasetVersion: new pods get it.
    pub const CURRENT: &str = "Current";
    /// DatasetGrant: it permits mounts now.
    pub const ACTIVE: &str = "Active";
}

/// Reasons of conditions.
pub mod reasons {
    /// Dataset Ready: a current version exists and can be mounted.
    pub const VERSION_CURRENT: &str = "VersionCurrent";
    /// Dataset not Ready, and Reconciling: an index Job is under way.
    pub const INDEXING: &str = "Indexing";
    /// Dataset not Ready: no version has the pinned name.
    pub const VERSION_NOT_FOUND: &str = "VersionNotFound";
    /// Dataset not Ready: the sources do not have the pinned digest. Source not available: a file has other content than
    /// `http.files` states.
    pub const DIGEST_MISMATCH: &str = "DigestMismatch";
    /// Dataset not Ready: no DataStorageClass has this name.
    pub const CLASS_NOT_FOUND: &str = "ClassNotFound";
    /// Dataset not Ready: it is being deleted and waits for pods.
    pub const DELETION_WAITS_FOR_PODS: &str = "DeletionWaitsForPods";

    /// SourceAvailable: the sources were listed.
    pub const LISTED: &str = "Listed";
    /// Source not available: the Secret does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// Source not available: the Secret lacks a key.
    pub const SECRET_KEYS_MISSING: &str = "SecretKeysMissing";
    /// Source not available: the keys are wrong or do not suffice.
    pub const CREDENTIALS_REJECTED: &str = "CredentialsRejected";
    /// Source not available: no such bucket, file or directory.
    pub const BUCKET_NOT_FOUND: &str = "BucketNotFound";
    /// Source not available: no answer, or none that makes sense.
    pub const ENDPOINT_UNREACHABLE: &str = "EndpointUnreachable";
    /// Source not available: the class forbids it.
    pub const SOURCE_DENIED: &str = "SourceDenied";
    /// Source not available: more than a blob can address.
    pub const TOO_LARGE: &str = "TooLarge";

    /// SourceUnchanged: every read found the pinned object.
    pub const AS_PINNED: &str = "AsPinned";
    /// Source changed: a read found another object than the pinned one.
    pub const OBJECT_CHANGED: &str = "ObjectChanged";
    /// NodeCache, of read errors: the pinned object is gone. A Dataset says `ObjectChanged` then, too.
    pub const OBJECT_NOT_FOUND: &str = "ObjectNotFound";

    /// ContentComplete: every key is a file.
    pub const ALL_LISTED: &str = "AllListed";
    /// Content not complete: the sources have no file.
    pub const EMPTY: &str = "Empty";
    /// Content not complete: some keys could not become files.
    pub const KEYS_SKIPPED: &str = "KeysSkipped";
    /// DatasetVersion, of skipped keys: an empty object that only marks a folder; nobody misses it.
    pub const FOLDER_MARKER: &str = "FolderMarker";
    /// StronglyPinned: etags or version ids everywhere.
    pub const ALL_PINNED: &str = "AllPinned";
    /// Not strongly pinned: a source has neither etags nor version ids.
    pub const WEAK_SOURCE: &str = "WeakSource";

    /// ClaimBound: the claim is bound.
    pub const BOUND: &str = "Bound";
    /// Claim not bound: a claim of that name is somebody else's.
    pub const CLAIM_CONFLICT: &str = "ClaimConflict";

    /// DatasetVersion Ready: the image store holds its image and extent table.
    pub const IMAGE_STORED: &str = "ImageStored";
    /// DatasetVersion not Ready: the image store lost something of it.
    pub const IMAGE_MISSING: &str = "ImageMissing";
    /// DatasetVersion Current: the Dataset selects it.
    pub const SELECTED: &str = "Selected";
    /// DatasetVersion not Current: the Dataset selects another one.
    pub const NOT_SELECTED: &str = "NotSelected";

    /// DataStorageClass Ready: its StorageClass exists.
    pub const STORAGE_CLASS_READY: &str = "StorageClassReady";
    /// DataStorageClass not Ready: a StorageClass of that name is somebody else's.
    pub const STORAGE_CLASS_CONFLICT: &str = "StorageClassConflict";
    /// DataStorageClass not Ready: another class has the same cache directory.
    pub const PATH_SHARED: &str = "PathShared";

    /// DatasetGrant Ready: it is understood.
    pub const ACCEPTED: &str = "Accepted";
    /// DatasetGrant Active: it permits mounts.
    pub const IN_FORCE: &str = "InForce";
    /// DatasetGrant not Ready: no such dataset in its namespace.
    pub const DATASET_NOT_FOUND: &str = "DatasetNotFound";
    /// DatasetGrant not Active: it is not Ready.
    pub const NOT_ACCEPTED: &str = "NotAccepted";
    /// DatasetGrant not Active: its time is over.
    pub const EXPIRED: &str = "Expired";
    /// DatasetGrant not Active: it has a restriction that this release does not know.
    pub const RESTRICTION_UNKNOWN: &str = "RestrictionUnknown";

    /// NodeCache Ready: the node mounts datasets.
    pub const SERVING: &str = "Serving";
    /// NodeCache not Ready: the kernel lacks EROFS or loop devices.
    pub const KERNEL_UNSUPPORTED: &str = "KernelUnsupported";
    /// NodeCache not Ready: a cache directory cannot be used.
    pub const CACHE_UNAVAILABLE: &str = "CacheUnavailable";
    /// Event of a Node: its process ended, and nobody held what its readers waited for.
    pub const READS_INTERRUPTED: &str = "ReadsInterrupted";
}
