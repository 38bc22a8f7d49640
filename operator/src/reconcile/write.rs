//! The few ways in which the operator writes.

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

use super::ReconcileError;
use crate::names;

/// A kind that can be read and written.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned> Object for K {}

/// Kinds of a namespace.
pub fn namespaced<K: Object + Resource<Scope = NamespaceResourceScope>>(
    client: &Client,
    object: &impl ResourceExt,
) -> Api<K> {
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

/// Kinds of the cluster.
pub fn cluster<K: Object + Resource<Scope = ClusterResourceScope>>(client: &Client) -> Api<K> {
    Api::all(client.clone())
}

/// Writes the whole status by server-side apply, if it differs.
pub async fn status<K: Object, S: Serialize>(
    api: &Api<K>,
    object: &K,
    before: Option<&S>,
    after: &S,
) -> Result<(), ReconcileError> {
    let after = serde_json::to_value(after)?;
    if before.map(serde_json::to_value).transpose()?.as_ref() == Some(&after) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // The UID: the status of a deleted object must not reach one of the same name.
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": after,
    });
    let params = PatchParams::apply(names::OPERATOR).force();
    api.patch_status(&object.name_any(), &params, &Patch::Apply(&patch))
        .await
        .map_err(ReconcileError::api("write the status"))?;
    Ok(())
}

/// Sets the finalizer and annotations of an object that a user wrote, unless it has changed meanwhile; nothing else is touched.
pub async fn metadata<K: Object>(
    api: &Api<K>,
    object: &K,
    finalizer: (&str, bool),
    annotations: &[(&str, String)],
) -> Result<(), ReconcileError> {
    let (name, wanted) = finalizer;
    let has = object.finalizers().iter().any(|other| other == name);
    // A finalizer cannot be added to what is being deleted.
    let add = wanted && !has && object.meta().deletion_timestamp.is_none();
    let remove = !wanted && has;
    let current = object.annotations();
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .filter(|(key, value)| current.get(*key) != Some(value))
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    if !add && !remove && annotations.is_empty() {
        return Ok(());
    }
    let mut metadata = json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
    if add || remove {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.retain(|other| other != name);
        finalizers.extend(add.then(|| name.to_owned()));
        metadata["finalizers"] = json!(finalizers);
    }
    if !annotations.is_empty() {
        metadata["annotations"] = Value::Object(annotations);
    }
    let patch = Patch::Merge(json!({"metadata": metadata}));
    match api.patch(&object.name_any(), &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(ReconcileError::api("write finalizers and annotations")(error)),
    }
}

/// Creates an object; false if one of that name is there already.
pub async fn create<K: Object>(api: &Api<K>, object: &K) -> Result<Option<K>, ReconcileError> {
    let params = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
    match api.create(&params, object).await {
        Ok(created) => Ok(Some(created)),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(None),
        Err(error) => Err(ReconcileError::api("create an object")(error)),
    }
}

/// Deletes the object with this UID and what it owns; fine if it is gone.
pub async fn delete<K: Object>(api: &Api<K>, name: &str, uid: &str) -> Result<(), ReconcileError> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        // 409: one of the same name with another UID.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(ReconcileError::api("delete an object")(error)),
    }
}
