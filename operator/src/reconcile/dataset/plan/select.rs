//! Which version new pods get.

use std::sync::Arc;

use granary_crds::DatasetVersion;
use granary_crds::conditions::reasons;
use granary_crds::dataset::VersionSummary;
use granary_crds::size;

use super::super::observe::Observed;
use super::super::order::Look;
use super::index::version_name;

/// The selected version, or why there is none.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The newest version.
    pub latest: Option<Arc<DatasetVersion>>,
    /// What new pods get; or a reason of `Ready` and a message.
    pub current: Result<Arc<DatasetVersion>, (&'static str, String)>,
}

/// Selects the current version: the latest, or the pinned one and no other.
pub fn select(seen: &Observed, look: Option<&Look>) -> Selection {
    let named = |name: &str| seen.versions.iter().find(|version| version_name(version) == name).cloned();
    let latest = look.and_then(|look| named(&look.version)).or_else(|| seen.versions.last().cloned());
    let pin = seen.dataset.spec.pin.as_ref();
    let by_name = pin.and_then(|pin| pin.version.as_deref());
    let by_digest = pin.and_then(|pin| pin.digest.as_deref());
    let current = match (by_name, by_digest) {
        (Some(name), _) => named(name).ok_or_else(|| (reasons::VERSION_NOT_FOUND, not_found(seen, name))),
        (None, Some(digest)) => with_digest(seen, digest).ok_or_else(|| mismatch(digest, look, latest.as_deref())),
        (None, None) => latest.clone().ok_or_else(indexing),
    };
    Selection { latest, current }
}

/// The newest version with this digest; one that is stored completely if possible.
fn with_digest(seen: &Observed, digest: &str) -> Option<Arc<DatasetVersion>> {
    let all = || seen.versions.iter().rev().filter(|version| version.spec.listing_digest == digest);
    all().find(|version| seen.stored.contains(version_name(version))).or_else(|| all().next()).cloned()
}

fn indexing() -> (&'static str, String) {
    (reasons::INDEXING, "the sources are being indexed".to_owned())
}

fn not_found(seen: &Observed, name: &str) -> String {
    format!(
        "spec.pin.version names '{name}', which does not exist: choose one of \
         'kubectl get datasetversions -n {} -l granary.dev/dataset={}', or remove the pin",
        seen.dataset.metadata.namespace.as_deref().unwrap_or_default(),
        seen.dataset.metadata.name.as_deref().unwrap_or_default(),
    )
}

fn mismatch(digest: &str, look: Option<&Look>, latest: Option<&DatasetVersion>) -> (&'static str, String) {
    match latest {
        Some(latest) if look.is_some_and(|look| look.pin.as_deref() == Some(digest)) => (
            reasons::DIGEST_MISMATCH,
            format!(
                "spec.pin.digest is {digest}, but the sources have {}: restore the objects, or pin another digest",
                latest.spec.listing_digest
            ),
        ),
        _ => indexing(),
    }
}

/// A version as the status of its Dataset shows it.
pub fn summary(version: &DatasetVersion) -> VersionSummary {
    VersionSummary {
        name: version_name(version).to_owned(),
        listing_digest: version.spec.listing_digest.clone(),
        revision: version.spec.revision,
        file_count: Some(version.spec.file_count),
        size_bytes: Some(version.spec.size_bytes),
        size: Some(size::rounded(version.spec.size_bytes.unsigned_abs())),
    }
}
