//! The volume that is made for a claim.

use std::collections::BTreeMap;

use granary_crds::Dataset;
use granary_crds::names::{
    ATTRIBUTE_DATASET, ATTRIBUTE_NAMESPACE, ATTRIBUTE_UID, ATTRIBUTE_VERSION, CSI_DRIVER, DATASET_LABEL,
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use serde_json::json;

use super::wanted::Wanted;
use crate::names::PROVISIONED_BY;

/// Prefix of the names of volumes; the UID of the claim follows.
const PREFIX: &str = "granary-";

/// Name of the volume of the claim with this UID.
pub fn name(claim_uid: &str) -> String {
    format!("{PREFIX}{claim_uid}")
}

/// Whether the operator made `volume`, and so has to delete it: a volume that an administrator made has another name.
pub fn is_ours(volume: &PersistentVolume) -> bool {
    let spec = volume.spec.as_ref();
    let driver = spec.and_then(|spec| spec.csi.as_ref()).map(|csi| csi.driver.as_str());
    let claim = spec.and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.as_deref());
    driver == Some(CSI_DRIVER) && claim.is_some_and(|uid| volume.name_any() == name(uid))
}

/// The volume of `claim`: bound to it from the start, with the Secret of the dataset's owner.
pub fn volume(
    claim: &PersistentVolumeClaim,
    dataset: &Dataset,
    wanted: &Wanted,
) -> Result<PersistentVolume, serde_json::Error> {
    let uid = claim.uid().unwrap_or_default();
    let name = name(&uid);
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let mut attributes = BTreeMap::from([
        (ATTRIBUTE_DATASET, wanted.dataset.clone()),
        (ATTRIBUTE_NAMESPACE, wanted.namespace.clone()),
        (ATTRIBUTE_UID, dataset.uid().unwrap_or_default()),
    ]);
    attributes.extend(wanted.version.clone().map(|version| (ATTRIBUTE_VERSION, version)));
    let secret = dataset.spec.credentials.as_ref().and_then(|credentials| credentials.secret_ref.as_ref());
    let secret = secret.map(|secret| json!({"name": secret.name, "namespace": wanted.namespace}));
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "labels": {DATASET_LABEL: wanted.dataset},
            "annotations": {PROVISIONED_BY: CSI_DRIVER},
        },
        "spec": {
            "storageClassName": spec.storage_class_name,
            "capacity": {"storage": requests.get("storage").map_or("1Mi", |size| size.0.as_str())},
            "accessModes": ["ReadOnlyMany"],
            "volumeMode": "Filesystem",
            // Nothing of the driver deletes volumes: the operator does, when the claim is gone.
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(),
                "name": claim.name_any(),
                "uid": uid,
            },
            "csi": {
                "driver": CSI_DRIVER,
                "volumeHandle": name,
                "readOnly": true,
                "volumeAttributes": attributes,
                "nodePublishSecretRef": secret,
            },
        },
    }))
}
