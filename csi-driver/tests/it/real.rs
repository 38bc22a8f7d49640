//! The driver with the real data plane: from an index Job to a pod's file and back to nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use granary_crds::data_storage_class::{CacheSpec, DataStorageClassSpec, Permission, SourcePolicy};
use granary_crds::dataset::Source;
use granary_crds::exchange::{AssignedCredentials, Assignment, IndexResult, IndexedVersion};
use granary_crds::names::version_name;
use granary_crds::{DataStorageClass, DatasetVersion};
use granary_csi_driver::cluster::Cluster;
use granary_csi_driver::mounter::{Content, Mounter};
use granary_csi_driver::server_mounter::ServerMounter;
use granary_csi_driver::{index_job, node_cache};
use granary_serve::{LayoutChoice, Server, ServerConfig};
use k8s_openapi::jiff::Timestamp;
use tempfile::TempDir;

use crate::cluster::{dataset, version};
use crate::index::options;
use crate::operator::Operator;

/// Unmounts what a failed test left.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below =
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(&self.0));
        for mount in below.collect::<Vec<_>>().into_iter().rev() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn class() -> DataStorageClass {
    let spec = DataStorageClassSpec {
        cache: CacheSpec { path: Some("fast/a".into()), min_free_percent: 0, ..CacheSpec::default() },
        source_policy: SourcePolicy { file_sources: Permission::Allow, ..SourcePolicy::default() },
    };
    DataStorageClass::new("granary", spec)
}

async fn index(operator: &Operator, data: &TempDir, work: &Path) -> IndexedVersion {
    let assignment = Assignment {
        dataset_namespace: "vision".into(),
        dataset_name: "imagenet".into(),
        dataset_uid: crate::cluster::UID.into(),
        sources: vec![Source { uri: format!("file://{}/", data.path().display()), ..Source::default() }],
        credentials: AssignedCredentials::None,
        source_policy: class().spec.source_policy,
        parent: None,
        new_blob_id: "blob".into(),
    };
    operator.change(|store| store.assignments = vec![assignment]);
    index_job::run(&options(operator, work, data.path())).await.unwrap();
    match operator.change(|store| store.results.pop()) {
        Some(IndexResult::Ok(version)) => *version,
        other => panic!("{other:?}"),
    }
}

/// The object that the operator makes of a result.
fn object(indexed: IndexedVersion) -> DatasetVersion {
    let mut object = version(1);
    object.metadata.name = Some(version_name("imagenet", &indexed.blob.id, &indexed.listing_digest));
    object.spec.listing_digest = indexed.listing_digest;
    object.spec.blob = indexed.blob;
    object.spec.artifacts = indexed.artifacts;
    object.spec.sources = indexed.sources;
    object
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: mounts, loop devices and FUSE"]
async fn a_pod_reads_what_was_indexed_and_nothing_stays() {
    let root = tempfile::tempdir().unwrap();
    let _unmount = Unmount(root.path().canonicalize().unwrap());
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("train")).unwrap();
    std::fs::write(data.path().join("train/a.txt"), "hello").unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(data.path().join("big"), &bytes).unwrap();

    let operator = Operator::start().await;
    let version = object(index(&operator, &data, root.path()).await);
    let state_dir = root.path().join("state");
    std::fs::create_dir(root.path().join("cache")).unwrap();
    let server =
        Server::start(ServerConfig { state_dir, pools: BTreeMap::new(), layout: LayoutChoice::Auto, keeper: None })
            .await
            .unwrap();
    let mounter = ServerMounter::new(
        server.clone(),
        Arc::new(operator.client()),
        root.path().join("cache"),
        vec![data.path().to_owned()],
    );
    let target = root.path().join("pod/mount");
    std::fs::create_dir(root.path().join("pod")).unwrap();
    let name = version.metadata.name.clone().unwrap();
    let content = Content { dataset: dataset(), version, class: class(), secret: None };

    mounter.publish("pv-1", &target, content.clone()).await.unwrap();
    mounter.publish("pv-1", &target, content).await.unwrap();
    assert!(mounter.is_published(&target));
    let (small, big) = (target.join("train/a.txt"), target.join("big"));
    let read = tokio::task::spawn_blocking(move || (std::fs::read(small).unwrap(), std::fs::read(big).unwrap()));
    let (small, big) = read.await.unwrap();
    assert_eq!(small, b"hello");
    assert!(big == bytes, "other bytes");

    let report = node_cache::status(&mounter, None, None, Timestamp::now());
    assert_eq!(report.pools[0].class_name, "granary");
    assert_eq!(
        (report.datasets[0].versions[0].name.as_str(), report.datasets[0].versions[0].pod_count),
        (name.as_str(), 1)
    );
    assert!(report.datasets[0].cached_bytes >= 3_000_000);
    assert!(mounter.report().traffic.source_bytes >= 3_000_005);

    mounter.unpublish("pv-1", &target).await.unwrap();
    mounter.unpublish("pv-1", &target).await.unwrap();
    assert!(!mounter.is_published(&target) && !target.exists());
    server.stop(true).await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*root.path().to_string_lossy()), "{mounts}");
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_is_told_and_the_node_lives() {
    let root = tempfile::tempdir().unwrap();
    let operator = Operator::start().await;
    let server = Server::start(ServerConfig {
        state_dir: root.path().join("state"),
        pools: BTreeMap::new(),
        layout: LayoutChoice::Auto,
        keeper: None,
    })
    .await
    .unwrap();
    let mounter = ServerMounter::new(server, Arc::new(operator.client()), root.path().join("none"), Vec::new());
    let cluster = crate::cluster::cluster();
    let (caches, told) = tokio::sync::watch::channel(None);
    granary_csi_driver::classes::configure(&cluster as &dyn Cluster, &mounter, &caches).await;
    let trouble = told.borrow().clone().unwrap();
    assert!(trouble.contains("class 'granary'") && trouble.contains("does not exist"), "{trouble}");
    assert!(cluster.change(|objects| objects.warnings[0].starts_with("CacheUnavailable")));
}

#[tokio::test]
async fn a_cache_is_used_as_soon_as_it_can_be() {
    let root = tempfile::tempdir().unwrap();
    let operator = Operator::start().await;
    let server = Server::start(ServerConfig {
        state_dir: root.path().join("state"),
        pools: BTreeMap::new(),
        layout: LayoutChoice::Auto,
        keeper: None,
    })
    .await
    .unwrap();
    let disk = root.path().join("disk");
    let mounter = ServerMounter::new(server, Arc::new(operator.client()), disk.clone(), Vec::new());
    let cluster = crate::cluster::cluster();
    cluster.change(|objects| objects.classes = vec![class()]);
    let (caches, told) = tokio::sync::watch::channel(None);
    let configure = async || granary_csi_driver::classes::configure(&cluster as &dyn Cluster, &mounter, &caches).await;
    let warnings = || cluster.change(|objects| objects.warnings.len());

    configure().await;
    configure().await;
    assert!(told.borrow().is_some() && !disk.exists(), "what may be a disk that is not mounted is not made");
    assert_eq!(warnings(), 1, "it is said once");
    std::fs::create_dir_all(disk.join("fast/a")).unwrap();
    std::fs::write(disk.join("fast/a/thesis.tex"), "years").unwrap();
    configure().await;
    let trouble = told.borrow().clone().unwrap();
    assert!(trouble.contains("holds other data"), "{trouble}");
    assert_eq!(warnings(), 2);
    assert_eq!(std::fs::read_dir(disk.join("fast/a")).unwrap().count(), 1, "other data is left alone");
    std::fs::rename(disk.join("fast/a/thesis.tex"), disk.join("thesis.tex")).unwrap();
    configure().await;
    assert_eq!(*told.borrow(), None);
    assert_eq!(mounter.report().pools.len(), 1);
}
