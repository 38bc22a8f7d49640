//! Claims of our classes: the operator is their provisioner.

mod plan;
#[cfg(test)]
mod tests;
pub mod volume;
pub mod wanted;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use granary_crds::names::CSI_DRIVER;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use self::plan::{Observed, Plan};
use super::runner::{Reconciler, Trigger};
use super::{Context, ReconcileError, write};
use crate::events::{Note, Severity};
use crate::world::World;

/// How often a pending claim is told why: the API server forgets events.
const REMIND: Duration = Duration::from_secs(900);

/// Reconciles claims of our classes.
pub struct Claims;

#[async_trait]
impl Reconciler for Claims {
    type Kind = PersistentVolumeClaim;
    const NAME: &'static str = "PersistentVolumeClaim";

    async fn reconcile(
        context: &Context,
        claim: Arc<PersistentVolumeClaim>,
    ) -> Result<Option<Timestamp>, ReconcileError> {
        if !is_of_our_class(&context.world, &claim) {
            return Ok(None);
        }
        let seen = observe(&context.world, claim);
        let claim = seen.claim.as_ref();
        let note = match plan::plan(&seen) {
            Plan::Nothing => return Ok(None),
            Plan::Pending { reason, text } => Note::new(Severity::Warning, reason, "Provision", text),
            Plan::Provision => provision(context, &seen).await?,
        };
        context.events.publish(&claim.object_ref(&()), std::slice::from_ref(&note)).await;
        let pending = note.severity == Severity::Warning;
        Ok(Timestamp::now().checked_add(REMIND).ok().filter(|_| pending))
    }
}

async fn provision(context: &Context, seen: &Observed) -> Result<Note, ReconcileError> {
    let claim = seen.claim.as_ref();
    let (Some(dataset), Some(wanted)) = (&seen.dataset, wanted::wanted(claim)) else {
        return Err(ReconcileError::Waits("a half-made plan".to_owned()));
    };
    let volume = volume::volume(claim, dataset, &wanted)?;
    write::create(&write::cluster::<PersistentVolume>(&context.client), &volume).await?;
    tracing::info!(namespace = claim.namespace(), claim = claim.name_any(), volume = volume.name_any(), "volume made");
    let text = format!("made the volume {} of the Dataset {}/{}", volume.name_any(), wanted.namespace, wanted.dataset);
    Ok(Note::new(Severity::Normal, "ProvisioningSucceeded", "Provision", text))
}

/// Whether the claim's class is one of ours: a DataStorageClass, and no StorageClass of somebody else's.
fn is_of_our_class(world: &World, claim: &PersistentVolumeClaim) -> bool {
    let Some(name) = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()) else {
        return false;
    };
    let foreign = world.storage_classes.get(None, name).is_some_and(|class| class.provisioner != CSI_DRIVER);
    !foreign && world.classes.get(None, name).is_some()
}

fn observe(world: &World, claim: Arc<PersistentVolumeClaim>) -> Observed {
    let wanted = wanted::wanted(&claim);
    let dataset = wanted.as_ref().and_then(|wanted| world.datasets.get(Some(&wanted.namespace), &wanted.dataset));
    let versions =
        dataset.as_ref().map(|dataset| super::dataset::observe::versions(world, dataset)).unwrap_or_default();
    let namespace = wanted.map(|wanted| wanted.namespace);
    Observed {
        now: Timestamp::now(),
        grants: world.grants.store().state_filter(|grant| grant.namespace() == namespace),
        has_volume: world.volumes.get(None, &volume::name(&claim.uid().unwrap_or_default())).is_some(),
        dataset,
        versions,
        claim,
    }
}

/// Changes of other objects that matter to a claim.
pub fn triggers(world: &World) -> Vec<Trigger<PersistentVolumeClaim>> {
    let claims = || world.claims.store();
    let (by_dataset, by_version, by_grant, by_class) = (claims(), claims(), claims(), claims());
    vec![
        world.datasets.changes().map(move |it| naming(&by_dataset, it.namespace(), &it.name_any())).boxed(),
        world.versions.changes().map(move |it| naming(&by_version, it.namespace(), &it.spec.dataset_name)).boxed(),
        world.grants.changes().map(move |it| naming(&by_grant, it.namespace(), &it.spec.dataset_ref.name)).boxed(),
        world
            .classes
            .changes()
            .map(move |class| {
                let name = Some(class.name_any());
                let of_class = |claim: &PersistentVolumeClaim| {
                    claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name == name)
                };
                references(by_class.state_filter(of_class))
            })
            .boxed(),
        world
            .volumes
            .changes()
            .filter_map(|volume| async move {
                let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
                let reference = ObjectRef::new(claim.name.as_deref()?).within(claim.namespace.as_deref()?);
                volume::is_ours(&volume).then(|| vec![reference])
            })
            .boxed(),
    ]
}

/// Claims that name this dataset, in any namespace.
fn naming(
    claims: &Store<PersistentVolumeClaim>,
    namespace: Option<String>,
    dataset: &str,
) -> Vec<ObjectRef<PersistentVolumeClaim>> {
    let is_named = |claim: &PersistentVolumeClaim| {
        wanted::wanted(claim).is_some_and(|it| it.dataset == dataset && Some(it.namespace) == namespace)
    };
    references(claims.state_filter(is_named))
}

fn references(claims: Vec<Arc<PersistentVolumeClaim>>) -> Vec<ObjectRef<PersistentVolumeClaim>> {
    claims.iter().map(|claim| ObjectRef::from_obj(claim.as_ref())).collect()
}
