//! Who may mount a dataset: one pure function over what the API server says and what the kubelet says about the pod.

mod refusal;
#[cfg(test)]
mod tests;

use granary_crds::dataset_grant::{DatasetGrant, Subject, SubjectKind};
use granary_crds::{Dataset, Time};

use crate::attributes::Volume;

pub use refusal::Refusal;

/// A pod, as the kubelet reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
}

/// Namespace in which the dataset of `volume` is looked up, for a pod of `pod_namespace`.
pub fn dataset_namespace<'a>(volume: &'a Volume, pod_namespace: &'a str) -> &'a str {
    match volume {
        Volume::Persistent { namespace, .. } => namespace,
        Volume::Ephemeral { .. } => pod_namespace,
    }
}

/// Whether `pod` may mount the dataset that `volume` names, at the time `now`.
///
/// `dataset` is what the API server has under that name, none if it has nothing; `grants` are all grants of the dataset's namespace
/// (not needed for a pod of that namespace). To a pod of another namespace an unknown dataset and one that is not granted look the same.
pub fn decide(
    volume: &Volume,
    dataset: Option<&Dataset>,
    grants: &[DatasetGrant],
    pod: Option<&Pod>,
    now: Time,
) -> Result<(), Refusal> {
    let pod = pod.ok_or(Refusal::PodUnknown)?;
    let namespace = dataset_namespace(volume, &pod.namespace);
    let (Volume::Persistent { dataset: name, .. } | Volume::Ephemeral { dataset: name }) = volume;
    if namespace != pod.namespace {
        granted(namespace, name, grants, pod, now)?;
    }
    let own = namespace == pod.namespace;
    let dataset = dataset.ok_or_else(|| match own {
        true => Refusal::NotFound { namespace: namespace.to_owned(), dataset: name.clone() },
        false => Refusal::not_granted(namespace, name, pod),
    })?;
    match volume {
        Volume::Persistent { uid, .. } if dataset.metadata.uid.as_ref() != Some(uid) => {
            return Err(Refusal::Recreated { namespace: namespace.to_owned(), dataset: name.clone() });
        }
        // An inline volume's Secret is the pod author's, and must not feed what all pods share.
        Volume::Ephemeral { .. } if secret_name(dataset).is_some() => {
            return Err(Refusal::NeedsClaim { claim: claim_name(dataset, name) });
        }
        Volume::Persistent { .. } | Volume::Ephemeral { .. } => {}
    }
    if dataset.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::Deleting { namespace: namespace.to_owned(), dataset: name.clone() });
    }
    Ok(())
}

/// Name of the Secret with the keys of the dataset's sources.
pub fn secret_name(dataset: &Dataset) -> Option<&str> {
    dataset.spec.credentials.as_ref()?.secret_ref.as_ref().map(|secret| secret.name.as_str())
}

fn claim_name(dataset: &Dataset, name: &str) -> String {
    let claim = dataset.status.as_ref().and_then(|status| status.claim.as_ref());
    claim.map_or_else(|| name.to_owned(), |claim| claim.name.clone())
}

/// Why a grant that names this pod and dataset does not hold, the nearest to holding last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Shortcoming {
    Expired { grant: String, at: String },
    Restricted { grant: String, restriction: String },
}

fn granted(namespace: &str, name: &str, grants: &[DatasetGrant], pod: &Pod, now: Time) -> Result<(), Refusal> {
    let mut nearest: Option<Shortcoming> = None;
    for grant in grants.iter().filter(|grant| covers(grant, namespace, name, pod)) {
        match shortcoming(grant, &now) {
            None => return Ok(()),
            Some(found) => nearest = nearest.max(Some(found)),
        }
    }
    let (namespace, dataset) = (namespace.to_owned(), name.to_owned());
    Err(match nearest {
        None => Refusal::not_granted(&namespace, &dataset, pod),
        Some(Shortcoming::Expired { grant, at }) => Refusal::Expired { namespace, dataset, grant, at },
        Some(Shortcoming::Restricted { grant, restriction }) => {
            Refusal::Restricted { namespace, dataset, grant, restriction }
        }
    })
}

fn covers(grant: &DatasetGrant, namespace: &str, name: &str, pod: &Pod) -> bool {
    grant.metadata.namespace.as_deref() == Some(namespace)
        && grant.spec.dataset_ref.name == name
        && grant.spec.subjects.iter().any(|subject| is_subject(subject, pod))
}

fn is_subject(subject: &Subject, pod: &Pod) -> bool {
    match subject.kind {
        SubjectKind::Namespace => subject.name == pod.namespace,
        SubjectKind::ServiceAccount => {
            subject.name == pod.service_account && subject.namespace.as_deref() == Some(pod.namespace.as_str())
        }
        SubjectKind::Unknown => false,
    }
}

fn shortcoming(grant: &DatasetGrant, now: &Time) -> Option<Shortcoming> {
    let name = || grant.metadata.name.clone().unwrap_or_default();
    if let Some(end) = &grant.spec.expiration_time
        && end.0 <= now.0
    {
        return Some(Shortcoming::Expired { grant: name(), at: end.0.to_string() });
    }
    // No type of restriction is known to this release, and what is not known cannot be seen to hold.
    let unknown = grant.spec.restrictions.first()?;
    Some(Shortcoming::Restricted { grant: name(), restriction: unknown.type_.clone() })
}
