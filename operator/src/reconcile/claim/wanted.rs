//! What a claim asks for.

use granary_crds::Dataset;
use granary_crds::names::{DATASET_ANNOTATION, VERSION_ANNOTATION};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

/// What a claim asks for by its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace of the dataset.
    pub namespace: String,
    /// The dataset.
    pub dataset: String,
    /// Name or digest of a fixed version.
    pub version: Option<String>,
}

/// What `claim` asks for; none if it does not say, or not in a form that we know.
pub fn wanted(claim: &PersistentVolumeClaim) -> Option<Wanted> {
    let text = claim.annotations().get(DATASET_ANNOTATION)?;
    let own = claim.namespace().unwrap_or_default();
    let (namespace, dataset) = match text.split_once('/') {
        Some((namespace, dataset)) => (namespace.to_owned(), dataset),
        None => (own, text.as_str()),
    };
    if namespace.is_empty() || dataset.is_empty() || dataset.contains('/') {
        return None;
    }
    let version = claim.annotations().get(VERSION_ANNOTATION).cloned();
    Some(Wanted { namespace, dataset: dataset.to_owned(), version })
}

/// Whether `claim` asks for this dataset.
pub fn names_dataset(claim: &PersistentVolumeClaim, dataset: &Dataset) -> bool {
    wanted(claim).is_some_and(|wanted| {
        Some(wanted.dataset) == dataset.metadata.name && Some(wanted.namespace) == dataset.metadata.namespace
    })
}
