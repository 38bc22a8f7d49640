//! Volumes: one whose claim is gone is deleted. It holds no data: nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;

use super::claim::volume::{is_ours, name};
use super::runner::{Reconciler, Trigger};
use super::{Context, ReconcileError, write};
use crate::world::World;

/// How soon a volume is looked at again whose claim is gone but that Kubernetes has not released.
const AGAIN: Duration = Duration::from_secs(30);

/// Reconciles volumes that the operator made.
pub struct Volumes;

#[async_trait]
impl Reconciler for Volumes {
    type Kind = PersistentVolume;
    const NAME: &'static str = "PersistentVolume";

    async fn reconcile(context: &Context, volume: Arc<PersistentVolume>) -> Result<Option<Timestamp>, ReconcileError> {
        if !is_ours(&volume) || volume.metadata.deletion_timestamp.is_some() || has_claim(&context.world, &volume) {
            return Ok(None);
        }
        // Our cache of claims may be older than the volume: ask.
        let claim = claim_of(&volume).unwrap_or_default();
        let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &claim.0);
        let found = api.get_opt(&claim.1).await.map_err(ReconcileError::api("read a claim"))?;
        if found.is_some_and(|found| found.uid() == Some(claim.2.clone())) {
            return Ok(Timestamp::now().checked_add(AGAIN).ok());
        }
        tracing::info!(volume = volume.name_any(), "volume deleted: its claim is gone");
        let uid = volume.uid().unwrap_or_default();
        write::delete(&write::cluster::<PersistentVolume>(&context.client), &volume.name_any(), &uid).await?;
        Ok(None)
    }
}

/// Changes of claims that matter to their volumes.
pub fn triggers(world: &World) -> Vec<Trigger<PersistentVolume>> {
    let volumes = world.volumes.store();
    let of_claim = world.claims.changes().map(move |claim| {
        let reference = ObjectRef::new(&name(&claim.uid().unwrap_or_default()));
        // Most claims of a cluster are not of our classes.
        volumes.get(&reference).map(|_| reference).into_iter().collect()
    });
    vec![of_claim.boxed()]
}

/// Namespace, name and UID of a volume's claim.
fn claim_of(volume: &PersistentVolume) -> Option<(String, String, String)> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some((claim.namespace.clone()?, claim.name.clone()?, claim.uid.clone()?))
}

fn has_claim(world: &World, volume: &PersistentVolume) -> bool {
    let Some((namespace, name, uid)) = claim_of(volume) else {
        return false;
    };
    world.claims.get(Some(&namespace), &name).is_some_and(|claim| claim.uid() == Some(uid))
}
