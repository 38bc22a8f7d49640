//! The index Job, from its assignment to its result.

use std::path::Path;

use clap::Parser;
use granary_crds::data_storage_class::{Permission, SourcePolicy};
use granary_crds::dataset::Source;
use granary_crds::exchange::{
    ArtifactRef, AssignedCredentials, Assignment, IndexFailure, IndexResult, IndexedVersion, MEDIA_TYPE_EXTENTS, Parent,
};
use granary_csi_driver::index_job;
use granary_csi_driver::options::{Command, IndexOptions, Options};
use granary_image::ExtentTable;
use tempfile::TempDir;

use crate::operator::Operator;

/// A directory with a file, and a Job that may read it.
struct Job {
    operator: Operator,
    data: TempDir,
    work: TempDir,
}

impl Job {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("a.txt"), "hello").unwrap();
        Self { operator: Operator::start().await, data, work: tempfile::tempdir().unwrap() }
    }

    fn assignment(&self) -> Assignment {
        Assignment {
            dataset_namespace: "vision".into(),
            dataset_name: "imagenet".into(),
            dataset_uid: "uid".into(),
            sources: vec![Source { uri: format!("file://{}/", self.data.path().display()), ..Source::default() }],
            credentials: AssignedCredentials::None,
            source_policy: SourcePolicy { file_sources: Permission::Allow, ..SourcePolicy::default() },
            parent: None,
            new_blob_id: "new".into(),
        }
    }

    async fn run(&self, assignments: Vec<Assignment>) -> Vec<IndexResult> {
        self.operator.change(|store| store.assignments = assignments);
        index_job::run(&options(&self.operator, self.work.path(), self.data.path())).await.unwrap();
        assert_eq!(std::fs::read_dir(self.work.path()).unwrap().count(), 0, "something was left behind");
        self.operator.change(|store| store.results.drain(..).collect())
    }
}

/// Options of a Job that works in `work` and may read files below `data`.
pub fn options(operator: &Operator, work: &Path, data: &Path) -> IndexOptions {
    let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
    let arguments = [
        "granary-csi".to_owned(),
        "index".to_owned(),
        format!("--store-url={}", operator.url()),
        flag("store-ca", &operator.file("ca.crt")),
        flag("token-file", &operator.file("token")),
        flag("work-dir", work),
        flag("file-root", data),
    ];
    match Options::try_parse_from(arguments).unwrap().command {
        Command::Index(options) => options,
        Command::Node(_) | Command::Keeper(_) => unreachable!("parsed as index"),
    }
}

fn version(results: &[IndexResult]) -> &IndexedVersion {
    match results {
        [IndexResult::Ok(version)] => version,
        other => panic!("{other:?}"),
    }
}

fn failure(results: &[IndexResult]) -> &IndexFailure {
    match results {
        [IndexResult::Failed(failure)] => failure,
        other => panic!("{other:?}"),
    }
}

/// The table of `version`, as the next Job's parent.
fn parent(version: &IndexedVersion) -> Parent {
    let extents = version.artifacts.iter().find(|artifact| artifact.name == "extents").unwrap();
    Parent {
        blob_id: version.blob.id.clone(),
        extents: ArtifactRef {
            digest: extents.digest.clone(),
            size_bytes: extents.size_bytes,
            media_type: extents.media_type.clone(),
        },
    }
}

#[tokio::test]
async fn stores_what_it_found_before_it_says_so() {
    let job = Job::new().await;
    let results = job.run(vec![job.assignment()]).await;
    let version = version(&results);
    assert_eq!((version.file_count, version.size_bytes, version.blob.id.as_str()), (1, 5, "new"));
    assert_eq!(version.sources[0].uri, job.assignment().sources[0].uri);
    for artifact in &version.artifacts {
        let stored = job.operator.change(|store| store.artifacts.get(&artifact.digest).cloned()).unwrap();
        assert_eq!(stored.len() as i64, artifact.size_bytes, "{}", artifact.name);
    }
}

#[tokio::test]
async fn extends_the_table_that_it_is_given() {
    let job = Job::new().await;
    let results = job.run(vec![job.assignment()]).await;
    let first = version(&results);
    std::fs::write(job.data.path().join("b.txt"), "more").unwrap();
    let results = job.run(vec![Assignment { parent: Some(parent(first)), ..job.assignment() }]).await;
    let second = version(&results);
    assert_eq!(second.blob.parent_digest, Some(parent(first).extents.digest));
    let table = |version: &IndexedVersion| {
        let digest = parent(version).extents.digest;
        ExtentTable::from_bytes(job.operator.change(|store| store.artifacts[&digest].clone())).unwrap()
    };
    assert!(table(second).extends(&table(first)));
}

#[tokio::test]
async fn a_listing_that_is_the_same_gives_the_same_version() {
    let job = Job::new().await;
    let results = job.run(vec![job.assignment()]).await;
    let first = version(&results);
    let results = job.run(vec![Assignment { parent: Some(parent(first)), ..job.assignment() }]).await;
    let second = version(&results);
    assert_eq!(first.artifacts, second.artifacts);
    assert_eq!(first.listing_digest, second.listing_digest);
    assert_eq!(job.operator.change(|store| store.artifacts.len()), 2);
}

#[tokio::test]
async fn a_lost_or_damaged_table_begins_a_new_blob() {
    let job = Job::new().await;
    let lost = Parent {
        blob_id: "old".into(),
        extents: ArtifactRef {
            digest: format!("sha256:{:064}", 0),
            size_bytes: 5,
            media_type: MEDIA_TYPE_EXTENTS.into(),
        },
    };
    let results = job.run(vec![Assignment { parent: Some(lost.clone()), ..job.assignment() }]).await;
    assert_eq!((version(&results).blob.id.as_str(), &version(&results).blob.parent_digest), ("new", &None));

    job.operator.change(|store| store.artifacts.insert(lost.extents.digest.clone(), b"wrong".to_vec()));
    let results = job.run(vec![Assignment { parent: Some(lost), ..job.assignment() }]).await;
    assert_eq!(version(&results).blob.id, "new");
}

#[tokio::test]
async fn begins_again_when_another_job_was_faster() {
    let job = Job::new().await;
    job.operator.change(|store| store.conflicts = 1);
    let again = Assignment { new_blob_id: "second".into(), ..job.assignment() };
    let results = job.run(vec![job.assignment(), again]).await;
    assert_eq!(version(&results).blob.id, "second");
}

#[tokio::test]
async fn without_an_assignment_there_is_nothing_to_do() {
    let job = Job::new().await;
    assert!(job.run(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_missing_secret_is_told() {
    let job = Job::new().await;
    let assignment = Assignment { credentials: AssignedCredentials::Secret, ..job.assignment() };
    let results = job.run(vec![assignment]).await;
    assert_eq!(failure(&results).reason, "SecretNotFound");
    assert!(failure(&results).message.contains("'vision'"));
}

#[tokio::test]
async fn a_source_that_the_class_forbids_is_told() {
    let job = Job::new().await;
    let results = job.run(vec![Assignment { source_policy: SourcePolicy::default(), ..job.assignment() }]).await;
    assert_eq!(failure(&results).reason, "SourceDenied");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_told() {
    let job = Job::new().await;
    let mut assignment = job.assignment();
    assignment.sources[0].uri += "none/";
    let results = job.run(vec![assignment]).await;
    assert_eq!(failure(&results).reason, "BucketNotFound");
}

#[tokio::test]
async fn what_cannot_be_a_file_is_counted_with_its_reason_and_an_example() {
    let job = Job::new().await;
    let mut assignment = job.assignment();
    // Deeper than a path can be: no file of this source has room.
    assignment.sources[0].path = Some(vec!["p"; 2046].join("/"));
    let results = job.run(vec![assignment]).await;
    let version = version(&results);
    assert_eq!((version.file_count, version.skipped.len()), (0, 1));
    let skipped = &version.skipped[0];
    assert_eq!((skipped.reason.as_str(), skipped.count, skipped.examples.len()), ("NameTooLong", 1, 1));
}
