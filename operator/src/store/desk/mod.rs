//! Who asks, what a Job shall do, and what becomes of its result: the answers that need the cluster.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use granary_crds::exchange::{AssignedCredentials, Assignment, IndexFailure, IndexResult, IndexedVersion, Parent};
use granary_crds::names::DATASET_LABEL;
use granary_crds::{DataStorageClass, Dataset, DatasetVersion};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use parking_lot::Mutex as SyncMutex;
use serde_json::json;
use tokio::sync::Mutex;

use super::commit::{Commit, commit, head, parent};
use super::{Caller, Desk, ImageStore, JobRef, JobRegistry, Refusal, Reviewer};
use crate::metrics::Metrics;
use crate::names;
use crate::reconcile::dataset::order::{Look, Order, Outcome, sources_hash};
use crate::reconcile::owner;

/// Longest message of a failure: it becomes a condition's.
const MESSAGE_CHARS: usize = 2048;

/// What the desk works with.
pub struct DeskSettings {
    /// Reads and writes.
    pub client: Client,
    /// Whose a token is.
    pub reviewer: Arc<dyn Reviewer>,
    /// Which Jobs are ours.
    pub registry: Arc<JobRegistry>,
    /// Where artifacts lie.
    pub store: Arc<dyn ImageStore>,
    /// For counting.
    pub metrics: Arc<Metrics>,
    /// User name of the nodes' tokens.
    pub node_username: String,
}

/// The desk of a cluster. It reads from the API server, not from a cache: what it decides is final.
pub struct ClusterDesk {
    settings: DeskSettings,
    /// Which parent each Job was given; forgotten by a restart, after which a Job starts again.
    assigned: SyncMutex<HashMap<String, Option<Parent>>>,
    /// Held from looking at the versions to writing one; also by the collection of garbage.
    commits: Arc<Mutex<()>>,
}

impl ClusterDesk {
    /// A desk; `commits` is shared with the collection of garbage.
    pub fn new(settings: DeskSettings, commits: Arc<Mutex<()>>) -> Self {
        Self { settings, assigned: SyncMutex::default(), commits }
    }

    /// The Job and its Dataset, if the Job's order still stands.
    async fn case(&self, reference: &JobRef) -> Result<(Job, Dataset), Refusal> {
        let gone = || Refusal::NotFound("this Job is not needed any more".to_owned());
        let jobs = Api::<Job>::namespaced(self.settings.client.clone(), &reference.namespace);
        let job = jobs.get_opt(&reference.name).await?;
        let job = job.filter(|job| job.uid().as_deref() == Some(&reference.uid)).ok_or_else(gone)?;
        let labels = job.labels();
        let (Some(uid), Some(name)) = (labels.get(names::DATASET_UID_LABEL), labels.get(DATASET_LABEL)) else {
            return Err(gone());
        };
        // A Job of a `file://` dataset runs in the release's namespace: its Dataset is found by UID.
        let namespaces = match owner::controller(&job) {
            Some(_) => Api::<Dataset>::namespaced(self.settings.client.clone(), &reference.namespace),
            None => Api::<Dataset>::all(self.settings.client.clone()),
        };
        let named = namespaces.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await?;
        let dataset = named.items.into_iter().find(|dataset| dataset.uid().as_ref() == Some(uid)).ok_or_else(gone)?;
        let current = Order::of(&job).is_some_and(|order| order.sources == sources_hash(&dataset.spec));
        if !current || dataset.metadata.deletion_timestamp.is_some() || Outcome::of(&job).is_some() {
            return Err(gone());
        }
        Ok((job, dataset))
    }

    async fn versions(&self, dataset: &Dataset) -> Result<Vec<DatasetVersion>, Refusal> {
        let api = self.version_api(dataset);
        let params = ListParams::default().labels(&format!("{DATASET_LABEL}={}", dataset.name_any()));
        let mut versions = api.list(&params).await?.items;
        versions.retain(|version| owner::is_owned_by(version, dataset));
        Ok(versions)
    }

    fn version_api(&self, dataset: &Dataset) -> Api<DatasetVersion> {
        Api::namespaced(self.settings.client.clone(), &dataset.namespace().unwrap_or_default())
    }

    /// The table to extend: the newest, unless something of it or of the latest version is lost; then a new blob begins.
    async fn parent(&self, dataset: &Dataset, versions: &[DatasetVersion]) -> Result<Option<Parent>, Refusal> {
        let look = Look::of(dataset);
        let latest =
            versions.iter().find(|version| look.as_ref().is_some_and(|look| look.version == version.name_any()));
        let head = head(versions);
        for version in latest.into_iter().chain(head) {
            if !self.settings.store.has_all(&version.spec.artifacts).await? {
                return Ok(None);
            }
        }
        Ok(head.and_then(parent))
    }

    async fn commit(&self, reference: &JobRef, dataset: &Dataset, result: IndexedVersion) -> Result<String, Refusal> {
        let _alone = self.commits.lock().await;
        if !self.settings.store.has_all(&result.artifacts).await? {
            return Err(Refusal::Bad(
                "the store does not hold all of the result's artifacts: send them first".to_owned(),
            ));
        }
        let versions = self.versions(dataset).await?;
        let assigned = self.assigned.lock().get(&reference.uid).cloned();
        let Some(assigned) = assigned else {
            return Err(Refusal::Conflict("the operator has restarted: start again from the assignment".to_owned()));
        };
        let version = match commit(dataset, &versions, result, assigned.as_ref(), &reference.uid)? {
            Commit::Existing(name) => return Ok(name),
            Commit::New(version) => version,
        };
        let name = version.name_any();
        let params = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        match self.version_api(dataset).create(&params, &version).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let text = format!("a DatasetVersion '{name}' that is not this Dataset's exists");
                return Err(Refusal::Conflict(text));
            }
            // The schema refused what the Job sent.
            Err(kube::Error::Api(status)) if status.code == 422 => return Err(Refusal::Bad(status.message)),
            Err(error) => return Err(error.into()),
        }
        tracing::info!(
            namespace = dataset.namespace(),
            dataset = dataset.name_any(),
            version = name,
            revision = version.spec.revision,
            files = version.spec.file_count,
            bytes = version.spec.size_bytes,
            "version created"
        );
        Ok(name)
    }

    async fn record(&self, reference: &JobRef, outcome: &Outcome) -> Result<(), Refusal> {
        let jobs = Api::<Job>::namespaced(self.settings.client.clone(), &reference.namespace);
        let annotations = json!({names::OUTCOME_ANNOTATION: serde_json::to_string(outcome)?});
        let patch = Patch::Merge(json!({"metadata": {"uid": reference.uid, "annotations": annotations}}));
        jobs.patch(&reference.name, &PatchParams::default(), &patch).await?;
        self.assigned.lock().remove(&reference.uid);
        Ok(())
    }
}

#[async_trait]
impl Desk for ClusterDesk {
    async fn caller(&self, token: &str) -> Result<Caller, Refusal> {
        let identity = self.settings.reviewer.review(token).await?.ok_or(Refusal::Unauthenticated)?;
        if identity.username == self.settings.node_username {
            return Ok(Caller::Node);
        }
        let foreign = || Refusal::Forbidden("only nodes and the operator's own index Jobs are served".to_owned());
        let (namespace, (name, uid)) = identity.namespace().zip(identity.pod.as_ref()).ok_or_else(foreign)?;
        let pods = Api::<Pod>::namespaced(self.settings.client.clone(), namespace);
        let pod = pods.get_opt(name).await?.filter(|pod| pod.uid().as_ref() == Some(uid)).ok_or_else(foreign)?;
        let job = owner::controller(&pod).filter(|owner| owner.kind == "Job").ok_or_else(foreign)?;
        if !self.settings.registry.has(&job.uid) {
            return Err(foreign());
        }
        Ok(Caller::Job(JobRef { namespace: namespace.to_owned(), name: job.name.clone(), uid: job.uid.clone() }))
    }

    async fn assignment(&self, job: &JobRef) -> Result<Assignment, Refusal> {
        let (_, dataset) = self.case(job).await?;
        let classes = Api::<DataStorageClass>::all(self.settings.client.clone());
        let class = classes.get_opt(&dataset.spec.storage_class_name).await?;
        let class = class.ok_or_else(|| Refusal::NotFound("the Dataset's class does not exist any more".to_owned()))?;
        let versions = self.versions(&dataset).await?;
        let parent = self.parent(&dataset, &versions).await?;
        self.assigned.lock().insert(job.uid.clone(), parent.clone());
        let has_secret = dataset.spec.credentials.as_ref().is_some_and(|credentials| credentials.secret_ref.is_some());
        Ok(Assignment {
            dataset_namespace: dataset.namespace().unwrap_or_default(),
            dataset_name: dataset.name_any(),
            dataset_uid: dataset.uid().unwrap_or_default(),
            sources: dataset.spec.sources.clone(),
            credentials: if has_secret { AssignedCredentials::Secret } else { AssignedCredentials::None },
            source_policy: class.spec.source_policy,
            parent,
            // Random, as the API server made it, and the same however often the Job asks.
            new_blob_id: job.uid.clone(),
        })
    }

    async fn result(&self, job: &JobRef, result: IndexResult) -> Result<(), Refusal> {
        let (_, dataset) = self.case(job).await?;
        let time = after_the_last_look(&dataset, Timestamp::now());
        let outcome = match result {
            IndexResult::Ok(version) => Outcome::Version { name: self.commit(job, &dataset, *version).await?, time },
            IndexResult::Failed(failure) => failed(failure, time)?,
        };
        self.settings.metrics.job_reported(matches!(outcome, Outcome::Version { .. }));
        self.record(job, &outcome).await
    }
}

/// When a result comes, which is after what is known: a clock that was set back must not make it look old.
fn after_the_last_look(dataset: &Dataset, now: Timestamp) -> Timestamp {
    let last = Look::of(dataset).and_then(|look| look.time.checked_add(SignedDuration::from_micros(1)).ok());
    last.map_or(now, |last| last.max(now))
}

fn failed(failure: IndexFailure, time: Timestamp) -> Result<Outcome, Refusal> {
    let IndexFailure { reason, message } = failure;
    let camel_case = reason.starts_with(|first: char| first.is_ascii_uppercase())
        && reason.len() <= 64
        && reason.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !camel_case {
        return Err(Refusal::Bad("the reason of a failure is a word in CamelCase".to_owned()));
    }
    Ok(Outcome::Failed { reason, message: message.chars().take(MESSAGE_CHARS).collect(), time })
}
