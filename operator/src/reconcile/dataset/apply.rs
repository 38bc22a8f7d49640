//! Carries out a plan for a Dataset.

use granary_crds::{Dataset, DatasetVersion, names};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::Api;
use kube::{Resource, ResourceExt};

use super::observe::Observed;
use super::order::Order;
use super::plan::Plan;
use super::{claim, job};
use crate::names::LOOK_ANNOTATION;
use crate::reconcile::{Context, ReconcileError, write};

/// Carries out `plan`. Each step may be repeated; what a later one relies on comes first.
pub async fn apply(context: &Context, seen: &Observed, plan: &Plan) -> Result<(), ReconcileError> {
    let dataset = seen.dataset.as_ref();
    let api = write::namespaced::<Dataset>(&context.client, dataset);
    for job in &plan.delete_jobs {
        let jobs = Api::<Job>::namespaced(context.client.clone(), &job.namespace);
        write::delete(&jobs, &job.name, &job.uid).await?;
        context.registry.remove(&job.uid)?;
    }
    let look = plan.look.as_ref().map(serde_json::to_string).transpose()?;
    let annotations: Vec<_> = look.into_iter().map(|look| (LOOK_ANNOTATION, look)).collect();
    write::metadata(&api, dataset, (names::IN_USE_FINALIZER, plan.finalizer), &annotations).await?;
    if let Some(order) = &plan.create_job {
        create_job(context, dataset, order).await?;
    }
    if plan.create_claim {
        let claims = write::namespaced::<PersistentVolumeClaim>(&context.client, dataset);
        // One that is there already is seen next time, as ours or as somebody else's.
        write::create(&claims, &claim::claim(dataset)?).await?;
    }
    for name in &plan.delete_versions {
        let version = seen.versions.iter().find(|version| version.metadata.name.as_ref() == Some(name));
        if let Some(uid) = version.and_then(|version| version.uid()) {
            tracing::info!(namespace = dataset.namespace(), version = name, "old version deleted");
            write::delete(&write::namespaced::<DatasetVersion>(&context.client, dataset), name, &uid).await?;
        }
    }
    if let Some(status) = &plan.status {
        write::status(&api, dataset, dataset.status.as_ref(), status).await?;
    }
    context.events.publish(&dataset.object_ref(&()), &plan.notes).await;
    Ok(())
}

async fn create_job(context: &Context, dataset: &Dataset, order: &Order) -> Result<(), ReconcileError> {
    let job = job::job(dataset, order, &context.jobs)?;
    let api = write::namespaced::<Job>(&context.client, &job);
    let name = job.name_any();
    if let Some(created) = write::create(&api, &job).await? {
        context.registry.add(&created.uid().unwrap_or_default())?;
        context.metrics.jobs_created.inc();
        tracing::info!(
            namespace = created.namespace(),
            job = name,
            dataset = dataset.name_any(),
            attempt = order.attempt,
            "index Job created"
        );
        return Ok(());
    }
    let existing = api.get_opt(&name).await.map_err(ReconcileError::api("read an index Job"))?;
    let Some(existing) = existing else {
        return Err(ReconcileError::Waits(format!("Job {name}")));
    };
    let uid = existing.uid().unwrap_or_default();
    if existing.metadata.deletion_timestamp.is_none() && context.registry.has(&uid) {
        // Made by this operator, only not yet in its cache.
        return Ok(());
    }
    // Somebody else's of this name, or one that a crash left unrecorded: it would not be believed.
    write::delete(&api, &name, &uid).await?;
    Err(ReconcileError::Waits(format!("Job {name}")))
}
