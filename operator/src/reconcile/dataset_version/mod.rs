//! DatasetVersions: their status. Everything else about them is immutable.

mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use granary_crds::{Dataset, DatasetVersion};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use self::plan::Observed;
use super::node::usage::Usage;
use super::runner::{Reconciler, Trigger};
use super::{Context, ReconcileError, owner, write};
use crate::world::World;

/// Reconciles DatasetVersions.
pub struct DatasetVersions;

#[async_trait]
impl Reconciler for DatasetVersions {
    type Kind = DatasetVersion;
    const NAME: &'static str = "DatasetVersion";

    async fn reconcile(context: &Context, version: Arc<DatasetVersion>) -> Result<Option<Timestamp>, ReconcileError> {
        if version.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let seen = observe(context, version).await?;
        let (status, notes) = plan::plan(&seen);
        let api = write::namespaced::<DatasetVersion>(&context.client, seen.version.as_ref());
        write::status(&api, seen.version.as_ref(), seen.version.status.as_ref(), &status).await?;
        context.events.publish(&seen.version.object_ref(&()), &notes).await;
        Ok(None)
    }
}

/// Changes of other objects that matter to a version.
pub fn triggers(world: &World) -> Vec<Trigger<DatasetVersion>> {
    let by_dataset = world.versions.store();
    let by_node = world.versions.store();
    vec![
        world
            .datasets
            .changes()
            .map(move |dataset| {
                references(by_dataset.state_filter(|version| owner::is_owned_by(version, dataset.as_ref())))
            })
            .boxed(),
        world
            .nodes
            .changes()
            .map(move |node| {
                let reports = || node.status.iter().flat_map(|status| &status.datasets);
                let reported = |version: &DatasetVersion| {
                    let owner = owner::controller(version);
                    owner.is_some_and(|owner| reports().any(|report| report.uid == owner.uid))
                };
                references(by_node.state_filter(reported))
            })
            .boxed(),
    ]
}

fn references(versions: Vec<Arc<DatasetVersion>>) -> Vec<ObjectRef<DatasetVersion>> {
    versions.iter().map(|version| ObjectRef::from_obj(version.as_ref())).collect()
}

async fn observe(context: &Context, version: Arc<DatasetVersion>) -> Result<Observed, ReconcileError> {
    let world = &context.world;
    let dataset = world.datasets.get(version.namespace().as_deref(), &version.spec.dataset_name);
    let dataset = dataset.filter(|dataset| owner::is_owned_by(version.as_ref(), dataset.as_ref()));
    let siblings = dataset.as_ref().map(|dataset| revisions(world, dataset)).unwrap_or_default();
    let usage = dataset.as_ref().map(|dataset| Usage::of(&dataset.uid().unwrap_or_default(), &world.nodes.list()));
    Ok(Observed {
        now: Timestamp::now(),
        stored: context.store.has_all(&version.spec.artifacts).await?,
        current: dataset.and_then(|dataset| Some(dataset.status.as_ref()?.current_version.as_ref()?.name.clone())),
        siblings,
        usage: usage.unwrap_or_default(),
        version,
    })
}

fn revisions(world: &World, dataset: &Dataset) -> Vec<(String, i64)> {
    let versions = super::dataset::observe::versions(world, dataset);
    versions.iter().map(|version| (version.name_any(), version.spec.revision)).collect()
}
