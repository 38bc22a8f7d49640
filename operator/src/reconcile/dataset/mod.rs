//! Datasets: versions, claim, status.

mod apply;
mod claim;
pub mod job;
pub mod observe;
pub mod order;
pub mod plan;
mod pods;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use granary_crds::Dataset;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use self::observe::{JobState, JobView, Observed};
use self::plan::Settings;
use super::node::usage::Usage;
use super::runner::{Reconciler, Trigger};
use super::{Context, ReconcileError, write};
use crate::world::World;

/// Reconciles Datasets.
pub struct Datasets;

#[async_trait]
impl Reconciler for Datasets {
    type Kind = Dataset;
    const NAME: &'static str = "Dataset";

    async fn reconcile(context: &Context, dataset: Arc<Dataset>) -> Result<Option<Timestamp>, ReconcileError> {
        let seen = observe(context, dataset).await?;
        let plan = plan::plan(&seen, &Settings { file_roots: context.jobs.file_roots.clone() });
        apply::apply(context, &seen, &plan).await?;
        Ok(plan.again)
    }
}

/// Changes of other objects that matter to a Dataset.
pub fn triggers(world: &World) -> Vec<Trigger<Dataset>> {
    let (by_class, by_job, by_claim) = (world.datasets.store(), world.datasets.store(), world.datasets.store());
    vec![
        world.versions.changes().map(|version| named(version.as_ref(), &version.spec.dataset_name)).boxed(),
        // By the UID: a Job of a `file://` dataset runs in another namespace.
        world
            .jobs
            .changes()
            .map(move |job| {
                let uid = job.labels().get(crate::names::DATASET_UID_LABEL).cloned();
                references(by_job.state_filter(|dataset| dataset.uid() == uid))
            })
            .boxed(),
        world
            .claims
            .changes()
            .map(move |claim| {
                // Most claims of a cluster have no Dataset of their name.
                let reference = ObjectRef::new(&claim.name_any()).within(&claim.namespace().unwrap_or_default());
                by_claim.get(&reference).map(|_| reference).into_iter().collect()
            })
            .boxed(),
        world
            .classes
            .changes()
            .map(move |class| {
                let name = class.name_any();
                references(by_class.state_filter(|dataset| dataset.spec.storage_class_name == name))
            })
            .boxed(),
        world
            .nodes
            .changes()
            .map(|node| {
                let reports = node.status.iter().flat_map(|status| &status.datasets);
                reports.map(|report| ObjectRef::new(&report.name).within(&report.namespace)).collect()
            })
            .boxed(),
    ]
}

fn named(object: &impl ResourceExt, dataset: &str) -> Vec<ObjectRef<Dataset>> {
    vec![ObjectRef::new(dataset).within(&object.namespace().unwrap_or_default())]
}

fn references(datasets: Vec<Arc<Dataset>>) -> Vec<ObjectRef<Dataset>> {
    datasets.iter().map(|dataset| ObjectRef::from_obj(dataset.as_ref())).collect()
}

async fn observe(context: &Context, dataset: Arc<Dataset>) -> Result<Observed, ReconcileError> {
    let world = &context.world;
    let versions = observe::versions(world, &dataset);
    let mut stored = BTreeSet::new();
    for version in &versions {
        if context.store.has_all(&version.spec.artifacts).await? {
            stored.insert(version.name_any());
        }
    }
    let mut jobs = Vec::new();
    for job in observe::jobs(world, &dataset) {
        let mut view = JobView::new(&job, |uid| context.registry.has(uid));
        if view.state == JobState::Running(None) {
            view.state = JobState::Running(pods::problem(context, &job).await?);
        }
        jobs.push(view);
    }
    let namespace_ends = dataset.metadata.deletion_timestamp.is_some() && namespace_ends(context, &dataset).await?;
    Ok(Observed {
        now: Timestamp::now(),
        class: world.classes.get(None, &dataset.spec.storage_class_name),
        versions,
        stored,
        jobs,
        claim: world.claims.get(dataset.namespace().as_deref(), &dataset.name_any()),
        fixed: observe::fixed(world, &dataset),
        usage: Usage::of(&dataset.uid().unwrap_or_default(), &world.nodes.list()),
        namespace_ends,
        dataset,
    })
}

/// Whether the Dataset's namespace is being deleted: it must not wait for pods of others.
async fn namespace_ends(context: &Context, dataset: &Dataset) -> Result<bool, ReconcileError> {
    let api = write::cluster::<Namespace>(&context.client);
    let namespace = api
        .get_opt(&dataset.namespace().unwrap_or_default())
        .await
        .map_err(ReconcileError::api("read the namespace"))?;
    Ok(namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}
