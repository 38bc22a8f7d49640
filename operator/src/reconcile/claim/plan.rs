//! Whether a claim gets its volume, and if not, what to say.

use std::sync::Arc;

use granary_crds::{Dataset, DatasetGrant, DatasetVersion};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::wanted::wanted;
use crate::reconcile::grant::plan::covers;

/// What is known of a claim of one of our classes.
pub struct Observed {
    /// Now.
    pub now: Timestamp,
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// The dataset that it names, if there is one.
    pub dataset: Option<Arc<Dataset>>,
    /// Versions of that dataset.
    pub versions: Vec<Arc<DatasetVersion>>,
    /// Grants of that dataset's namespace.
    pub grants: Vec<Arc<DatasetGrant>>,
    /// Whether the claim's volume exists.
    pub has_volume: bool,
}

/// What shall be done about a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: it has its volume, or goes away.
    Nothing,
    /// Make its volume.
    Provision,
    /// It stays pending.
    Pending {
        /// Why, in CamelCase.
        reason: &'static str,
        /// What to do.
        text: String,
    },
}

/// Plans for one claim.
pub fn plan(seen: &Observed) -> Plan {
    let spec = seen.claim.spec.clone().unwrap_or_default();
    let foreign_volume = spec.volume_name.as_deref().is_some_and(|name| !name.is_empty());
    if seen.has_volume || foreign_volume || seen.claim.metadata.deletion_timestamp.is_some() {
        return Plan::Nothing;
    }
    if spec.access_modes.as_deref() != Some(&["ReadOnlyMany".to_owned()]) {
        return pending("AccessMode", "only accessModes: [ReadOnlyMany] is possible: make another claim");
    }
    if spec.volume_mode.as_deref().is_some_and(|mode| mode != "Filesystem") {
        return pending("VolumeMode", "only volumeMode: Filesystem is possible: make another claim");
    }
    let Some(wanted) = wanted(&seen.claim) else {
        return pending(
            "DatasetNotNamed",
            "the claim must name a dataset: set the annotation granary.dev/dataset to '<dataset>' or '<namespace>/<dataset>'",
        );
    };
    let own = seen.claim.namespace().unwrap_or_default();
    let dataset = match (&seen.dataset, wanted.namespace == own) {
        (Some(dataset), true) => dataset,
        (None, true) => {
            return pending(
                "DatasetNotFound",
                format!("there is no Dataset '{}' in this namespace: create it, or name another", wanted.dataset),
            );
        }
        // One text for both: nobody learns here which datasets others have.
        (dataset, false) => match dataset.as_ref().filter(|_| is_granted(seen, &wanted.dataset, &own)) {
            Some(dataset) => dataset,
            None => {
                return pending(
                    "DatasetNotGranted",
                    format!(
                        "the Dataset '{}' does not exist in the namespace '{}', or is not granted to the namespace '{own}': ask its \
                         owner for a DatasetGrant",
                        wanted.dataset, wanted.namespace
                    ),
                );
            }
        },
    };
    if dataset.metadata.deletion_timestamp.is_some() {
        return pending("DatasetDeleted", format!("the Dataset '{}' is being deleted: name another", wanted.dataset));
    }
    // Before the first version the Secret can still change, and a volume's reference to it could not.
    if seen.versions.is_empty() {
        let text = format!("the Dataset '{}' has no version yet: see 'kubectl describe dataset'", wanted.dataset);
        return pending("DatasetNotReady", text);
    }
    let has = |version: &String| {
        let is_it = |known: &Arc<DatasetVersion>| known.name_any() == *version || known.spec.listing_digest == *version;
        seen.versions.iter().any(is_it)
    };
    match wanted.version.filter(|version| !has(version)) {
        Some(version) => pending(
            "VersionNotFound",
            format!(
                "the Dataset '{}' has no version '{version}': change the annotation granary.dev/version",
                wanted.dataset
            ),
        ),
        None => Plan::Provision,
    }
}

fn is_granted(seen: &Observed, dataset: &str, namespace: &str) -> bool {
    seen.grants.iter().any(|grant| covers(grant, dataset, namespace, seen.now))
}

fn pending(reason: &'static str, text: impl Into<String>) -> Plan {
    Plan::Pending { reason, text: text.into() }
}
