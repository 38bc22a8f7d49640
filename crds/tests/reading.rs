//! What readers do with objects of newer and older writers.

use granary_crds::Dataset;
use granary_crds::data_storage_class::{DataStorageClassSpec, Permission, SourcePolicy};
use granary_crds::dataset::{DatasetSpec, SourceIdentity};
use granary_crds::exchange::{IndexFailure, IndexResult};
use serde_json::json;

#[test]
fn unknown_values_and_fields_are_tolerated() {
    let dataset: Dataset = serde_json::from_value(json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Dataset", "metadata": {"name": "x"},
        "spec": {"sources": [{"uri": "s3://b/", "identity": "Workload", "later": {}}], "later": {}},
    }))
    .unwrap();
    assert_eq!(dataset.spec.sources[0].identity, Some(SourceIdentity::Unknown));
}

#[test]
fn an_unknown_permission_permits_nothing() {
    let policy: SourcePolicy = serde_json::from_value(json!({"fileSources": "Sometimes"})).unwrap();
    assert_eq!(policy.file_sources, Permission::Unknown);
    assert!(!policy.file_sources.is_allowed());
}

#[test]
fn defaults_are_those_of_the_schema() {
    let dataset: DatasetSpec = serde_json::from_value(json!({"sources": [{"uri": "s3://b/"}]})).unwrap();
    assert_eq!((dataset.storage_class_name.as_str(), dataset.revision_history_limit), ("granary", 10));
    assert!(!dataset.preload);
    let class: DataStorageClassSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!((class.cache.min_free_percent, class.cache.min_free.0.as_str()), (20, "0"));
    assert_eq!(class, DataStorageClassSpec::default());
}

#[test]
fn absent_members_are_not_written() {
    let spec: DatasetSpec = serde_json::from_value(json!({"sources": [{"uri": "s3://b/"}]})).unwrap();
    let written = serde_json::to_value(spec).unwrap();
    assert_eq!(
        written,
        json!({
            "sources": [{"uri": "s3://b/"}], "storageClassName": "granary", "revisionHistoryLimit": 10, "preload": false,
        })
    );
}

#[test]
fn a_result_says_what_it_is() {
    let failed = IndexResult::Failed(IndexFailure { reason: "BucketNotFound".into(), message: "m".into() });
    assert_eq!(serde_json::to_value(failed).unwrap(), json!({"Failed": {"reason": "BucketNotFound", "message": "m"}}));
}
