//! The claim of a Dataset's name.

use granary_crds::Dataset;
use granary_crds::names::{DATASET_ANNOTATION, DATASET_LABEL};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use serde_json::json;

use crate::reconcile::owner;

/// The claim: it names its dataset by annotation, as a user's would, and gets its volume in the same way. No label or annotation of the
/// Dataset is copied: a copied tracking label would make a GitOps tool prune it.
pub fn claim(dataset: &Dataset) -> Result<PersistentVolumeClaim, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": dataset.name_any(),
            "namespace": dataset.namespace(),
            "labels": {DATASET_LABEL: dataset.name_any()},
            "annotations": {DATASET_ANNOTATION: dataset.name_any()},
            "ownerReferences": owner::reference(dataset),
        },
        "spec": {
            "storageClassName": dataset.spec.storage_class_name,
            "accessModes": ["ReadOnlyMany"],
            "volumeMode": "Filesystem",
            // Means nothing, and is small so that a quota on storage is not charged for what is not stored.
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }))
}
