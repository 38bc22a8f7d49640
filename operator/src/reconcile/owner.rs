//! Ownership, by recorded UID.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

/// Whether `owner` is recorded as the controlling owner of `object`.
pub fn is_owned_by<K: Resource, O: Resource>(object: &K, owner: &O) -> bool {
    match (controller(object), owner.meta().uid.as_deref()) {
        (Some(reference), Some(uid)) => reference.uid == uid,
        _ => false,
    }
}

/// The controlling owner of `object`.
pub fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.owner_references().iter().find(|reference| reference.controller == Some(true))
}

/// The reference to `owner` for what it controls.
pub fn reference<O: Resource<DynamicType = ()>>(owner: &O) -> Vec<OwnerReference> {
    owner.controller_owner_ref(&()).into_iter().collect()
}
