//! Everything that a plan for a Dataset depends on.

use std::collections::BTreeSet;
use std::sync::Arc;

use granary_crds::names::{ATTRIBUTE_UID, ATTRIBUTE_VERSION, CSI_DRIVER, VERSION_ANNOTATION};
use granary_crds::{DataStorageClass, Dataset, DatasetVersion};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use super::order::{Order, Outcome};
use crate::names::DATASET_UID_LABEL;
use crate::reconcile::node::usage::Usage;
use crate::reconcile::owner;
use crate::world::World;

/// What is known when a plan is made.
pub struct Observed {
    /// Now.
    pub now: Timestamp,
    /// The Dataset.
    pub dataset: Arc<Dataset>,
    /// Its class, if there is one of that name.
    pub class: Option<Arc<DataStorageClass>>,
    /// Its versions, oldest first.
    pub versions: Vec<Arc<DatasetVersion>>,
    /// Names of those whose artifacts the store holds completely.
    pub stored: BTreeSet<String>,
    /// Its index Jobs, oldest first.
    pub jobs: Vec<JobView>,
    /// The claim of its name, whoever made it.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// Names and digests of versions that a volume or claim is fixed to.
    pub fixed: BTreeSet<String>,
    /// What nodes report of it.
    pub usage: Usage,
    /// Whether its namespace is being deleted.
    pub namespace_ends: bool,
}

/// An index Job as a plan sees it.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Name.
    pub name: String,
    /// Namespace: the Dataset's, or that of the release.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Whether this operator made it; others are not believed.
    pub ours: bool,
    /// What it was told to do.
    pub order: Option<Order>,
    /// How far it is.
    pub state: JobState,
}

/// How far a Job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Under way; a problem of its pod if it does not start.
    Running(Option<String>),
    /// It reported.
    Reported(Outcome),
    /// It ended without a report: crashed, killed or out of time.
    Lost {
        /// When it ended.
        time: Timestamp,
        /// What Kubernetes says about it.
        message: String,
    },
}

impl JobView {
    /// The view of `job`; `ours` says whether this operator made the Job of a UID.
    pub fn new(job: &Job, ours: impl Fn(&str) -> bool) -> Self {
        let uid = job.uid().unwrap_or_default();
        Self {
            name: job.name_any(),
            namespace: job.namespace().unwrap_or_default(),
            ours: ours(&uid),
            uid,
            order: Order::of(job),
            state: state(job),
        }
    }
}

fn state(job: &Job) -> JobState {
    if let Some(outcome) = Outcome::of(job) {
        return JobState::Reported(outcome);
    }
    let status = job.status.clone().unwrap_or_default();
    let ended = status
        .conditions
        .unwrap_or_default()
        .into_iter()
        .find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True");
    match ended {
        None => JobState::Running(None),
        Some(condition) => JobState::Lost {
            time: condition.last_transition_time.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            message: match (condition.reason.as_deref(), condition.message) {
                (Some("DeadlineExceeded"), _) => "it took too long".to_owned(),
                (_, Some(message)) => message,
                (reason, None) => reason.unwrap_or("it ended without a result").to_owned(),
            },
        },
    }
}

/// Versions of the Dataset, oldest first.
pub fn versions(world: &World, dataset: &Dataset) -> Vec<Arc<DatasetVersion>> {
    let mut versions = world.versions.list();
    versions.retain(|version| owner::is_owned_by(version.as_ref(), dataset));
    versions.sort_by_key(|version| version.spec.revision);
    versions
}

/// Index Jobs of the Dataset, oldest first.
pub fn jobs(world: &World, dataset: &Dataset) -> Vec<Arc<Job>> {
    let uid = dataset.uid();
    let mut jobs = world.jobs.list();
    jobs.retain(|job| job.labels().get(DATASET_UID_LABEL) == uid.as_ref());
    jobs.sort_by_key(|job| job.creation_timestamp().map(|time| (time.0, job.name_any())));
    jobs
}

/// What volumes of the Dataset and claims for it are fixed to: such versions are kept.
pub fn fixed(world: &World, dataset: &Dataset) -> BTreeSet<String> {
    let uid = dataset.uid().unwrap_or_default();
    let volumes = world.volumes.list();
    let by_volume = volumes.iter().filter_map(|volume| fixed_by(volume, &uid));
    let claims = world.claims.list();
    let by_claim = claims
        .iter()
        .filter(|claim| crate::reconcile::claim::wanted::names_dataset(claim, dataset))
        .filter_map(|claim| claim.annotations().get(VERSION_ANNOTATION).cloned());
    by_volume.chain(by_claim).collect()
}

fn fixed_by(volume: &PersistentVolume, uid: &str) -> Option<String> {
    let csi = volume.spec.as_ref()?.csi.as_ref().filter(|csi| csi.driver == CSI_DRIVER)?;
    let attributes = csi.volume_attributes.as_ref()?;
    (attributes.get(ATTRIBUTE_UID)? == uid).then(|| attributes.get(ATTRIBUTE_VERSION).cloned())?
}
