//! What shall be done about a Dataset: a pure function of what is known.

pub mod index;
pub mod policy;
mod prune;
pub mod select;
mod status;
#[cfg(test)]
mod tests;

use granary_crds::conditions::reasons;
use granary_crds::{DatasetStatus, names};
use jiff::Timestamp;
use kube::ResourceExt;

use self::index::{Indexing, Next};
use super::observe::{JobView, Observed};
use super::order::{Look, Order};
use crate::events::{Note, Severity};
use crate::reconcile::owner;

/// What depends on how the operator was started.
pub struct Settings {
    /// Host directories that `file://` sources may be below.
    pub file_roots: Vec<String>,
}

/// What shall be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whether the finalizer shall be there.
    pub finalizer: bool,
    /// A look to remember on the Dataset.
    pub look: Option<Look>,
    /// Jobs to delete.
    pub delete_jobs: Vec<JobView>,
    /// A Job to make.
    pub create_job: Option<Order>,
    /// Whether the claim shall be made.
    pub create_claim: bool,
    /// Versions to delete.
    pub delete_versions: Vec<String>,
    /// The status; none: the object goes away.
    pub status: Option<DatasetStatus>,
    /// What a user should know.
    pub notes: Vec<Note>,
    /// When to plan again if nothing happens before.
    pub again: Option<Timestamp>,
}

/// Plans for one Dataset.
pub fn plan(seen: &Observed, settings: &Settings) -> Plan {
    if seen.dataset.metadata.deletion_timestamp.is_some() {
        return deletion(seen);
    }
    let denial = seen.class.as_ref().and_then(|class| policy::denial(seen, class, &settings.file_roots));
    let indexing = index::plan(seen, denial.is_some() || seen.class.is_none());
    let selection = select::select(seen, indexing.look.as_ref());
    let claim = claim_state(seen, selection.latest.is_some());
    let status = status::status(seen, &indexing, &selection, denial.as_deref(), &claim);
    let notes = notes(seen, &indexing, &status, &claim);
    Plan {
        finalizer: true,
        look: indexing.look.clone().filter(|look| Look::of(&seen.dataset).as_ref() != Some(look)),
        delete_jobs: indexing.obsolete.clone(),
        create_job: match &indexing.next {
            Next::Create(order) => Some(order.clone()),
            _ => None,
        },
        create_claim: claim == ClaimState::Missing,
        // Only when nothing else moves: a version that is about to become current must not go.
        delete_versions: if indexing.why.is_none() { prune::prune(seen, &selection) } else { Vec::new() },
        again: again(seen, &indexing),
        status: Some(status),
        notes,
    }
}

/// How it stands with the claim of the Dataset's name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ClaimState {
    /// Not before the first version: until then a typing error in `secretRef` can be mended.
    NotYet,
    /// To be made.
    Missing,
    /// Made by somebody else.
    Foreign,
    /// Ours.
    Ours { uid: String, bound: bool },
}

fn claim_state(seen: &Observed, has_version: bool) -> ClaimState {
    match &seen.claim {
        Some(claim) if owner::is_owned_by(claim.as_ref(), seen.dataset.as_ref()) => {
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            ClaimState::Ours { uid: claim.uid().unwrap_or_default(), bound: phase == Some("Bound") }
        }
        Some(_) => ClaimState::Foreign,
        None if has_version => ClaimState::Missing,
        None => ClaimState::NotYet,
    }
}

fn deletion(seen: &Observed) -> Plan {
    let has_finalizer = seen.dataset.finalizers().iter().any(|name| name == names::IN_USE_FINALIZER);
    let waits = has_finalizer && seen.usage.pod_count() > 0 && !seen.namespace_ends;
    Plan {
        finalizer: waits,
        delete_jobs: seen.jobs.iter().filter(|job| job.ours).cloned().collect(),
        status: waits.then(|| status::waiting(seen)),
        ..Plan::default()
    }
}

fn again(seen: &Observed, indexing: &Indexing) -> Option<Timestamp> {
    let soon = |seconds| seen.now.checked_add(jiff::SignedDuration::from_secs(seconds)).ok();
    match &indexing.next {
        Next::Wait(until) => Some(*until),
        // A pod that does not start changes nothing on its Job.
        Next::Running => soon(15),
        Next::Create(_) => None,
        Next::Idle => indexing.refresh.next_time.as_ref().map(|time| time.0),
    }
}

fn notes(seen: &Observed, indexing: &Indexing, status: &DatasetStatus, claim: &ClaimState) -> Vec<Note> {
    let mut notes = Vec::new();
    let before = seen.dataset.status.as_ref();
    let name = |status: Option<&DatasetStatus>| {
        status.and_then(|status| status.current_version.as_ref()).map(|version| version.name.clone())
    };
    if let Some(current) = name(Some(status)).filter(|current| name(before).as_ref() != Some(current)) {
        notes.push(Note::new(Severity::Normal, "VersionSelected", "Select", format!("new pods get version {current}")));
    }
    if let Some(failure) = &indexing.failure {
        let reason = failure.reason.as_deref().unwrap_or("IndexFailed");
        notes.push(Note::new(Severity::Warning, reason, "Index", failure.message.clone()));
    }
    if *claim == ClaimState::Foreign {
        let text = status::claim_conflict(seen);
        notes.push(Note::new(Severity::Warning, reasons::CLAIM_CONFLICT, "MakeClaim", text));
    }
    let changed = status.conditions.iter().find(|condition| condition.reason == reasons::OBJECT_CHANGED);
    if let Some(condition) = changed {
        notes.push(Note::new(Severity::Warning, reasons::OBJECT_CHANGED, "Read", condition.message.clone()));
    }
    notes
}
