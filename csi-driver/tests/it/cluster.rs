//! A cluster in memory.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use granary_crds::dataset::{ClaimStatus, Credentials, DatasetSpec, DatasetStatus, SecretRef, VersionSummary};
use granary_crds::dataset_grant::{DatasetGrantSpec, DatasetRef, Subject, SubjectKind};
use granary_crds::dataset_version::{Blob, DatasetVersionSpec};
use granary_crds::names::version_name;
use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion, NodeCacheStatus, Time};
use granary_csi_driver::cluster::{Cluster, ClusterError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// UID of the dataset `vision/imagenet`.
pub const UID: &str = "00000000-0000-4000-8000-000000000001";

/// What the API server has.
#[derive(Default)]
pub struct Objects {
    pub datasets: Vec<Dataset>,
    pub versions: Vec<DatasetVersion>,
    pub grants: Vec<DatasetGrant>,
    pub classes: Vec<DataStorageClass>,
    pub reports: Vec<NodeCacheStatus>,
    pub warnings: Vec<String>,
    pub down: bool,
    /// How often it was asked or told something.
    pub asked: usize,
}

/// A cluster in memory.
#[derive(Default)]
pub struct FakeCluster(Mutex<Objects>);

impl FakeCluster {
    pub fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn look<T>(&self, look: impl FnOnce(&Objects) -> T) -> Result<T, ClusterError> {
        self.tell(|objects| look(objects))
    }

    fn tell<T>(&self, tell: impl FnOnce(&mut Objects) -> T) -> Result<T, ClusterError> {
        self.change(|objects| {
            objects.asked += 1;
            match objects.down {
                true => {
                    Err(ClusterError { action: "ask".into(), message: "the API server is away".into(), away: true })
                }
                false => Ok(tell(objects)),
            }
        })
    }
}

#[async_trait]
impl Cluster for FakeCluster {
    async fn dataset(&self, namespace: &str, name: &str) -> Result<Option<Dataset>, ClusterError> {
        self.look(|objects| objects.datasets.iter().find(|found| is_named(*found, namespace, name)).cloned())
    }

    async fn version(&self, namespace: &str, name: &str) -> Result<Option<DatasetVersion>, ClusterError> {
        self.look(|objects| objects.versions.iter().find(|found| is_named(*found, namespace, name)).cloned())
    }

    async fn versions(&self, namespace: &str, _: &str) -> Result<Vec<DatasetVersion>, ClusterError> {
        // Labels are anybody's to write: this cluster's are all wrong.
        let of_namespace = |found: &&DatasetVersion| found.metadata.namespace.as_deref() == Some(namespace);
        self.look(|objects| objects.versions.iter().filter(of_namespace).cloned().collect())
    }

    async fn grants(&self, namespace: &str) -> Result<Vec<DatasetGrant>, ClusterError> {
        let of_namespace = |found: &&DatasetGrant| found.metadata.namespace.as_deref() == Some(namespace);
        self.look(|objects| objects.grants.iter().filter(of_namespace).cloned().collect())
    }

    async fn class(&self, name: &str) -> Result<Option<DataStorageClass>, ClusterError> {
        self.look(|objects| objects.classes.iter().find(|found| found.metadata.name.as_deref() == Some(name)).cloned())
    }

    async fn classes(&self) -> Result<Vec<DataStorageClass>, ClusterError> {
        self.look(|objects| objects.classes.clone())
    }

    async fn put_node_cache(&self, status: &NodeCacheStatus) -> Result<(), ClusterError> {
        self.tell(|objects| objects.reports.push(status.clone()))
    }

    async fn warn(&self, reason: &str, note: &str) -> Result<(), ClusterError> {
        self.tell(|objects| objects.warnings.push(format!("{reason}: {note}")))
    }
}

fn is_named<K: kube::Resource>(object: &K, namespace: &str, name: &str) -> bool {
    object.meta().namespace.as_deref() == Some(namespace) && object.meta().name.as_deref() == Some(name)
}

/// Digest of the listing of revision `revision`.
pub fn listing(revision: i64) -> String {
    format!("sha256:{revision:064x}")
}

/// Name of the version of revision `revision` of `imagenet`.
pub fn imagenet(revision: i64) -> String {
    version_name("imagenet", "blob", &listing(revision))
}

/// `vision/imagenet`, whose current version is its second.
pub fn dataset() -> Dataset {
    let spec = DatasetSpec { storage_class_name: "granary".into(), ..DatasetSpec::default() };
    let mut dataset = Dataset::new("imagenet", spec);
    dataset.metadata.namespace = Some("vision".into());
    dataset.metadata.uid = Some(UID.into());
    dataset.status = Some(DatasetStatus {
        current_version: Some(VersionSummary {
            name: imagenet(2),
            listing_digest: listing(2),
            revision: 2,
            ..VersionSummary::default()
        }),
        claim: Some(ClaimStatus { name: "imagenet".into(), uid: "claim".into() }),
        ..DatasetStatus::default()
    });
    dataset
}

/// The same, with a Secret.
pub fn with_secret(mut dataset: Dataset) -> Dataset {
    dataset.spec.credentials = Some(Credentials { secret_ref: Some(SecretRef { name: "s3-read".into() }) });
    dataset
}

/// A version of `vision/imagenet`.
pub fn version(revision: i64) -> DatasetVersion {
    let spec = DatasetVersionSpec {
        dataset_name: "imagenet".into(),
        revision,
        listing_digest: listing(revision),
        file_count: 1,
        size_bytes: 1,
        blob: Blob { id: "blob".into(), size_bytes: 4096, parent_digest: None },
        artifacts: Vec::new(),
        sources: Vec::new(),
        skipped: Vec::new(),
        indexed_time: Time("2026-01-01T00:00:00Z".parse().unwrap()),
        indexer_version: "0".into(),
    };
    let mut version = DatasetVersion::new(&imagenet(revision), spec);
    version.metadata.namespace = Some("vision".into());
    version.metadata.owner_references = Some(vec![OwnerReference { uid: UID.into(), ..OwnerReference::default() }]);
    version
}

/// Grants `vision/imagenet` to a namespace.
pub fn grant(namespace: &str) -> DatasetGrant {
    let subject = Subject { kind: SubjectKind::Namespace, name: namespace.into(), namespace: None };
    let spec = DatasetGrantSpec {
        dataset_ref: DatasetRef { name: "imagenet".into() },
        subjects: vec![subject],
        ..DatasetGrantSpec::default()
    };
    let mut grant = DatasetGrant::new("to-others", spec);
    grant.metadata.namespace = Some("vision".into());
    grant
}

/// A cluster with `vision/imagenet`, its versions 1 to 3, and the class `granary`.
pub fn cluster() -> FakeCluster {
    FakeCluster(Mutex::new(Objects {
        datasets: vec![dataset()],
        versions: vec![version(1), version(2), version(3)],
        classes: vec![DataStorageClass::new("granary", Default::default())],
        ..Objects::default()
    }))
}
