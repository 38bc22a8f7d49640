//! What becomes of a Job's result: a pure decision over the versions that there are.

use granary_crds::dataset::Source;
use granary_crds::dataset_version::{ARTIFACT_EXTENTS, ARTIFACT_IMAGE, VersionSource};
use granary_crds::exchange::{ArtifactRef, IndexedVersion, MEDIA_TYPE_EXTENTS, MEDIA_TYPE_IMAGE, Parent};
use granary_crds::names::{DATASET_LABEL, version_name};
use granary_crds::{Dataset, DatasetVersion, DatasetVersionSpec};
use kube::ResourceExt;

use super::Refusal;
use crate::reconcile::owner;

/// What becomes of a result.
#[derive(Debug, PartialEq)]
pub enum Commit {
    /// The sources have a listing that they had before: that version is current again.
    Existing(String),
    /// A new version.
    New(Box<DatasetVersion>),
}

/// The newest version: the next one extends its table.
pub fn head(versions: &[DatasetVersion]) -> Option<&DatasetVersion> {
    versions.iter().max_by_key(|version| version.spec.revision)
}

/// The table that a Job extends which begins now.
pub fn parent(head: &DatasetVersion) -> Option<Parent> {
    let extents = head.spec.artifact(ARTIFACT_EXTENTS)?;
    Some(Parent {
        blob_id: head.spec.blob.id.clone(),
        extents: ArtifactRef {
            digest: extents.digest.clone(),
            size_bytes: extents.size_bytes,
            media_type: extents.media_type.clone(),
        },
    })
}

/// Decides about `result` of the Job that was given `assigned` as its parent and `new_blob_id` for a blob of its own.
///
/// A compare-and-swap: the result must extend the newest table, or begin a blob while no other Job has committed since the assignment.
pub fn commit(
    dataset: &Dataset,
    versions: &[DatasetVersion],
    result: IndexedVersion,
    assigned: Option<&Parent>,
    new_blob_id: &str,
) -> Result<Commit, Refusal> {
    check(dataset, &result)?;
    let name = version_name(&dataset.name_any(), &result.blob.id, &result.listing_digest);
    let existing = versions.iter().find(|version| version.name_any() == name);
    if existing.is_some_and(|version| version.spec.artifacts == result.artifacts) {
        // Also a result that is sent twice.
        return Ok(Commit::Existing(name));
    }
    let head = head(versions);
    let head_table = head.and_then(|head| head.spec.artifact(ARTIFACT_EXTENTS)).map(|extents| &extents.digest);
    let extends_head = head.is_some_and(|head| head.spec.blob.id == result.blob.id)
        && result.blob.parent_digest.as_ref() == head_table
        && head_table.is_some();
    let begins = result.blob.id == new_blob_id && result.blob.parent_digest.is_none();
    let undisturbed = assigned.is_none() || assigned.map(|parent| &parent.extents.digest) == head_table;
    if !(extends_head || begins && undisturbed) {
        return Err(Refusal::Conflict(
            "the parent is no longer the newest table of its blob: start again from the assignment".to_owned(),
        ));
    }
    if existing.is_some() {
        return Ok(Commit::Existing(name));
    }
    let revision = head.map_or(0, |head| head.spec.revision) + 1;
    Ok(Commit::New(Box::new(version(dataset, name, revision, result))))
}

fn version(dataset: &Dataset, name: String, revision: i64, result: IndexedVersion) -> DatasetVersion {
    let spec = DatasetVersionSpec {
        dataset_name: dataset.name_any(),
        revision,
        listing_digest: result.listing_digest,
        file_count: result.file_count,
        size_bytes: result.size_bytes,
        blob: result.blob,
        artifacts: result.artifacts,
        sources: result.sources,
        skipped: result.skipped,
        indexed_time: result.indexed_time,
        indexer_version: result.indexer_version,
    };
    let mut version = DatasetVersion::new(&name, spec);
    version.metadata.namespace = dataset.namespace();
    version.metadata.labels = Some([(DATASET_LABEL.to_owned(), dataset.name_any())].into());
    version.metadata.owner_references = Some(owner::reference(dataset));
    version
}

/// What the schema cannot say: the sources are the Dataset's, and the artifacts those that every version has.
fn check(dataset: &Dataset, result: &IndexedVersion) -> Result<(), Refusal> {
    let same = result.sources.len() == dataset.spec.sources.len()
        && result.sources.iter().zip(&dataset.spec.sources).all(|(found, wanted)| is_of(found, wanted));
    if !same {
        return Err(Refusal::NotFound(
            "the Dataset has other sources by now: start again from the assignment".to_owned(),
        ));
    }
    for (name, media_type) in [(ARTIFACT_IMAGE, MEDIA_TYPE_IMAGE), (ARTIFACT_EXTENTS, MEDIA_TYPE_EXTENTS)] {
        if !result.artifacts.iter().any(|artifact| artifact.name == name && artifact.media_type == media_type) {
            return Err(Refusal::Bad(format!("the artifact '{name}' of type {media_type} is missing")));
        }
    }
    Ok(())
}

fn is_of(found: &VersionSource, wanted: &Source) -> bool {
    found.uri == wanted.uri
        && found.name == wanted.name
        && found.path == wanted.path
        && found.include == wanted.include
        && found.exclude == wanted.exclude
        && found.identity == wanted.identity
        && found.s3 == wanted.s3
        && found.http == wanted.http
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn dataset() -> Dataset {
        let dataset = json!({
            "metadata": {"name": "d", "namespace": "a", "uid": "u"},
            "spec": {"sources": [{"uri": "s3://b/"}]},
        });
        serde_json::from_value(dataset).unwrap()
    }

    fn digest(text: &str) -> String {
        format!("sha256:{text}")
    }

    /// A result with this listing in this blob, whose table is `table` and extends `parent`.
    fn result(listing: &str, blob: &str, table: &str, parent: Option<&str>) -> IndexedVersion {
        let result: Value = json!({
            "listingDigest": digest(listing), "fileCount": 1, "sizeBytes": 1,
            "blob": {"id": blob, "sizeBytes": 4096, "parentDigest": parent.map(digest)},
            "artifacts": [
                {"name": "image", "mediaType": MEDIA_TYPE_IMAGE, "digest": digest(listing), "sizeBytes": 1},
                {"name": "extents", "mediaType": MEDIA_TYPE_EXTENTS, "digest": digest(table), "sizeBytes": 1},
            ],
            "sources": [{"uri": "s3://b/", "fileCount": 1, "sizeBytes": 1, "pinnedBy": "ETag"}],
            "skipped": [{"reason": "UnusableName", "count": 7, "examples": ["a//b"]}],
            "indexedTime": "2026-01-01T00:00:00Z", "indexerVersion": "0",
        });
        serde_json::from_value(result).unwrap()
    }

    fn new(commit: Result<Commit, Refusal>) -> DatasetVersion {
        match commit.unwrap() {
            Commit::New(version) => *version,
            Commit::Existing(name) => panic!("{name} exists"),
        }
    }

    fn is_conflict(commit: Result<Commit, Refusal>) -> bool {
        matches!(commit, Err(Refusal::Conflict(_)))
    }

    #[test]
    fn versions_follow_each_other_and_are_owned() {
        let first = new(commit(&dataset(), &[], result("l1", "j1", "t1", None), None, "j1"));
        assert_eq!((first.spec.revision, first.spec.dataset_name.as_str()), (1, "d"));
        assert_eq!(
            (first.spec.skipped[0].count, first.spec.skipped[0].examples.as_slice()),
            (7, &["a//b".to_owned()][..])
        );
        assert!(owner::is_owned_by(&first, &dataset()));
        let parent = parent(&first).unwrap();
        let versions = [first];
        let second = new(commit(&dataset(), &versions, result("l2", "j1", "t2", Some("t1")), Some(&parent), "j2"));
        assert_eq!(second.spec.revision, 2);
    }

    #[test]
    fn of_two_racing_jobs_one_starts_again() {
        let first = new(commit(&dataset(), &[], result("l1", "j1", "t1", None), None, "j1"));
        let assigned = parent(&first).unwrap();
        let second = new(commit(
            &dataset(),
            std::slice::from_ref(&first),
            result("l2", "j1", "t2", Some("t1")),
            Some(&assigned),
            "j2",
        ));
        let versions = [first, second];
        let late = result("l3", "j1", "t3", Some("t1"));
        assert!(is_conflict(commit(&dataset(), &versions, late, Some(&assigned), "j3")));
        // Nor may it begin a blob because it saw an old parent.
        let begun = result("l3", "j3", "t3", None);
        assert!(is_conflict(commit(&dataset(), &versions, begun, Some(&assigned), "j3")));
        // A blob that is not its own.
        let stolen = result("l3", "other", "t3", None);
        assert!(is_conflict(commit(&dataset(), &versions, stolen, None, "j3")));
    }

    #[test]
    fn a_lost_table_begins_a_blob() {
        let first = new(commit(&dataset(), &[], result("l1", "j1", "t1", None), None, "j1"));
        let again = new(commit(&dataset(), &[first], result("l1", "j2", "t1", None), None, "j2"));
        assert_eq!(again.spec.revision, 2);
    }

    #[test]
    fn an_earlier_listing_and_a_repeated_result_make_no_version() {
        let first = new(commit(&dataset(), &[], result("l1", "j1", "t1", None), None, "j1"));
        let name = first.name_any();
        let assigned = parent(&first).unwrap();
        let repeated = commit(&dataset(), std::slice::from_ref(&first), result("l1", "j1", "t1", None), None, "j1");
        assert_eq!(repeated.unwrap(), Commit::Existing(name.clone()));
        let second = new(commit(
            &dataset(),
            std::slice::from_ref(&first),
            result("l2", "j1", "t2", Some("t1")),
            Some(&assigned),
            "j2",
        ));
        let assigned = parent(&second).unwrap();
        let back = result("l1", "j1", "t2", Some("t2"));
        assert_eq!(commit(&dataset(), &[first, second], back, Some(&assigned), "j3").unwrap(), Commit::Existing(name));
    }

    #[test]
    fn refuses_what_is_not_of_this_dataset() {
        let mut other = result("l1", "j1", "t1", None);
        other.sources[0].uri = "file:///etc".to_owned();
        assert!(matches!(commit(&dataset(), &[], other, None, "j1"), Err(Refusal::NotFound(_))));
        let mut bare = result("l1", "j1", "t1", None);
        bare.artifacts.truncate(1);
        assert!(matches!(commit(&dataset(), &[], bare, None, "j1"), Err(Refusal::Bad(_))));
    }
}
