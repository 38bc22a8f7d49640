//! Names that several programs agree on. Each is written here and nowhere else.

use sha2::{Digest, Sha256};

/// API group of all kinds.
pub const GROUP: &str = "granary.dev";
/// API version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// Category of all kinds: `kubectl get granary`.
pub const CATEGORY: &str = "granary";

/// Name of the CSI driver, and provisioner of its storage classes.
pub const CSI_DRIVER: &str = "csi.granary.dev";
/// Name of the storage class that the chart makes, and default of `Dataset.spec.storageClassName`.
pub const DEFAULT_STORAGE_CLASS: &str = "granary";
/// Parameter of a storage class: name of its `DataStorageClass`.
pub const STORAGE_CLASS_PARAMETER: &str = "dataStorageClass";

/// Finalizer of a Dataset: it stays until no pod uses it.
pub const IN_USE_FINALIZER: &str = "granary.dev/in-use";
/// Label of DatasetVersions, Jobs and claims: name of the Dataset. For selecting only; ownership is by UID.
pub const DATASET_LABEL: &str = "granary.dev/dataset";
/// Annotation of a claim: `[namespace/]name` of the dataset that it asks for. The same text as the label's key, on another kind.
pub const DATASET_ANNOTATION: &str = "granary.dev/dataset";
/// Annotation of a claim: name or listing digest of the version that it asks for; without it the volume follows.
pub const VERSION_ANNOTATION: &str = "granary.dev/version";

/// Volume attribute: name of the dataset.
pub const ATTRIBUTE_DATASET: &str = "dataset";
/// Volume attribute: namespace of the dataset; only on volumes that the operator made.
pub const ATTRIBUTE_NAMESPACE: &str = "namespace";
/// Volume attribute: UID of the dataset; only on volumes that the operator made.
pub const ATTRIBUTE_UID: &str = "uid";
/// Volume attribute: name or listing digest of a fixed version.
pub const ATTRIBUTE_VERSION: &str = "version";

/// Audience of the tokens with which Jobs and nodes speak to the operator.
pub const TOKEN_AUDIENCE: &str = "granary";

/// Longest name of a Dataset: its versions (11 characters more) and Jobs fit a DNS label.
pub const DATASET_NAME_MAX: usize = 52;

/// Name of the version of `dataset` with this blob and listing: the same input gives the same name, so creating it twice is harmless.
///
/// `listing_digest` is written `sha256:<hex>`.
pub fn version_name(dataset: &str, blob_id: &str, listing_digest: &str) -> String {
    let hash = Sha256::new()
        .chain_update(blob_id.as_bytes())
        .chain_update(b"\n")
        .chain_update(listing_digest.as_bytes())
        .finalize();
    let hex: String = hash[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{dataset}-{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_names_follow_blob_and_listing() {
        let name = version_name("imagenet", "blob", "sha256:00");
        // printf 'blob\nsha256:00' | sha256sum
        assert_eq!(name, "imagenet-fcca9fb4eb");
        assert_ne!(name, version_name("imagenet", "other", "sha256:00"));
        assert_ne!(name, version_name("imagenet", "blob", "sha256:01"));
    }

    #[test]
    fn longest_version_name_is_a_label() {
        assert!(version_name(&"a".repeat(DATASET_NAME_MAX), "b", "c").len() <= 63);
    }
}
