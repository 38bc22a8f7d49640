//! JSON of the API server and of the image store: what a node mounts, what a Job shall index, and what it found. Who may write
//! such an object is not who the node's rights belong to.
#![no_main]

use std::path::{Component, Path};
use std::sync::Arc;

use granary_crds::exchange::{Assignment, IndexResult};
use granary_crds::{DataStorageClass, Dataset, DatasetVersion};
use granary_csi_driver::manifest;
use granary_csi_driver::mounter::Content;
use granary_fetch::{NoCredentials, Source, SourceConfig, SourcePolicy};
use granary_serve::VersionManifest;
use libfuzzer_sys::fuzz_target;

/// What a node looks up before it mounts.
#[derive(serde::Deserialize)]
struct Objects {
    dataset: Dataset,
    version: DatasetVersion,
    class: DataStorageClass,
}

fuzz_target!(|data: &[u8]| {
    if let Ok(Objects { dataset, version, class }) = serde_json::from_slice(data) {
        mount(&Content { dataset, version, class, secret: None });
    }
    if let Ok(assignment) = serde_json::from_slice::<Assignment>(data) {
        let policy = manifest::policy(&assignment.source_policy, &[], "the class");
        for source in &assignment.sources {
            if let (Ok(config), Ok(policy)) = (manifest::source(source, false, "the Dataset"), &policy) {
                open(&config, policy);
            }
        }
    }
    if let Ok(result) = serde_json::from_slice::<IndexResult>(data) {
        let text = serde_json::to_vec(&result).expect("it can be written");
        let again: IndexResult = serde_json::from_slice(&text).expect("it can be read");
        assert_eq!(serde_json::to_vec(&again).expect("it can be written"), text);
    }
});

fn mount(content: &Content) {
    let root = Path::new("/var/lib/granary");
    if let Ok(pool) = manifest::pool(&content.class, root) {
        let below = pool.dir.strip_prefix(root).expect("the cache lies below its root");
        let mut parts = below.components();
        assert!(parts.next().is_some() && parts.all(|part| matches!(part, Component::Normal(_))), "{below:?}");
    }
    let Ok(manifest) = manifest::version(content, &[]) else { return };
    for source in &manifest.sources {
        open(source, &manifest.policy);
    }
    let text = serde_json::to_vec(&manifest).expect("it can be written");
    let again: VersionManifest = serde_json::from_slice(&text).expect("it can be read");
    assert_eq!(again, manifest);
}

/// No root is set for files, so none may be opened.
fn open(config: &SourceConfig, policy: &SourcePolicy) {
    if let Ok(source) = Source::open(config, Arc::new(NoCredentials), Arc::new(policy.clone())) {
        assert!(!source.config().uri.starts_with("file:"));
    }
}
