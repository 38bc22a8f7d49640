//! What the data plane is told.

use std::path::{Path, PathBuf};

use granary_crds::data_storage_class::{CacheSpec, DataStorageClassSpec, Permission, SourcePolicy};
use granary_crds::dataset::{S3Options, S3PinBy, SourceIdentity};
use granary_crds::dataset_version::{Artifact, PinnedBy, VersionSource};
use granary_crds::exchange::{MEDIA_TYPE_EXTENTS, MEDIA_TYPE_IMAGE};
use granary_crds::{DataStorageClass, Quantity};
use granary_csi_driver::manifest;
use granary_csi_driver::mounter::Content;
use granary_fetch::{Identity, PinBy};

use crate::cluster::{dataset, imagenet, listing, version, with_secret};

fn artifact(name: &str, media_type: &str) -> Artifact {
    Artifact { name: name.into(), media_type: media_type.into(), digest: listing(1), size_bytes: 4096 }
}

fn content() -> Content {
    let mut version = version(2);
    version.spec.artifacts = vec![artifact("image", MEDIA_TYPE_IMAGE), artifact("extents", MEDIA_TYPE_EXTENTS)];
    version.spec.sources = vec![VersionSource {
        uri: "s3://vision/imagenet/".into(),
        name: Some("labels".into()),
        path: None,
        include: Vec::new(),
        exclude: Vec::new(),
        identity: None,
        s3: Some(S3Options {
            endpoint: Some("http://s3".into()),
            pin_by: Some(S3PinBy::VersionID),
            ..S3Options::default()
        }),
        http: None,
        file_count: 1,
        size_bytes: 1,
        pinned_by: PinnedBy::VersionID,
    }];
    Content { dataset: dataset(), version, class: class(DataStorageClassSpec::default()), secret: None }
}

fn class(spec: DataStorageClassSpec) -> DataStorageClass {
    DataStorageClass::new("granary", spec)
}

#[test]
fn a_version_as_it_was_recorded() {
    let manifest = manifest::version(&content(), &[]).unwrap();
    assert_eq!((manifest.version, manifest.pool.as_str()), (imagenet(2), "granary"));
    assert_eq!((manifest.blob_id.as_str(), manifest.blob_bytes, manifest.image_bytes), ("blob", 4096, 4096));
    let source = &manifest.sources[0];
    assert_eq!((source.uri.as_str(), source.s3.endpoint.as_deref()), ("s3://vision/imagenet/", Some("http://s3")));
    assert_eq!((source.s3.pin_by, source.identity), (PinBy::VersionID, Identity::Anonymous));
}

#[test]
fn preload_is_the_datasets_and_no_part_of_the_version() {
    let mut content = content();
    let before = manifest::version(&content, &[]).unwrap();
    content.dataset.spec.preload = true;
    let after = manifest::version(&content, &[]).unwrap();
    assert!(!before.preload && after.preload);
    assert_eq!(granary_serve::VersionManifest { preload: false, ..after }, before);
}

#[test]
fn identities_follow_the_dataset() {
    let mut content = Content { dataset: with_secret(dataset()), ..content() };
    let identity = |content: &Content| manifest::version(content, &[]).map(|manifest| manifest.sources[0].identity);
    assert_eq!(identity(&content), Ok(Identity::Secret));
    content.version.spec.sources[0].identity = Some(SourceIdentity::Anonymous);
    assert_eq!(identity(&content), Ok(Identity::Anonymous));
    content.version.spec.sources[0].identity = Some(SourceIdentity::Unknown);
    assert!(identity(&content).unwrap_err().to_string().contains("does not know"));
}

#[test]
fn a_format_of_another_release_is_not_mounted() {
    let mut content = content();
    content.version.spec.artifacts[0].media_type = "application/vnd.granary.image.erofs.v2".into();
    assert!(manifest::version(&content, &[]).unwrap_err().to_string().contains("upgrade Granary"));
    content.version.spec.artifacts.remove(0);
    assert!(manifest::version(&content, &[]).is_err());
}

#[test]
fn a_class_lends_nothing_by_default() {
    let roots = [PathBuf::from("/data")];
    let policy = manifest::policy(&SourcePolicy::default(), &roots, "class").unwrap();
    assert!(policy.file_roots.is_empty() && !policy.ambient && !policy.allow_all_networks);
    let all = SourcePolicy {
        file_sources: Permission::Allow,
        ambient_identity: Permission::Allow,
        allowed_networks: vec!["127.0.0.0/8".into()],
    };
    let policy = manifest::policy(&all, &roots, "class").unwrap();
    assert!(policy.file_roots == roots && policy.ambient && policy.allows([127, 0, 0, 1].into()));
    let unknown = SourcePolicy { file_sources: Permission::Unknown, ..all.clone() };
    assert!(manifest::policy(&unknown, &roots, "class").unwrap().file_roots.is_empty());
    let wrong = SourcePolicy { allowed_networks: vec!["everything".into()], ..all };
    assert!(manifest::policy(&wrong, &roots, "class").is_err());
}

#[test]
fn a_cache_stays_below_the_root() {
    let pool = |path: Option<&str>| {
        let cache = CacheSpec { path: path.map(str::to_owned), ..CacheSpec::default() };
        manifest::pool(&class(DataStorageClassSpec { cache, ..DataStorageClassSpec::default() }), Path::new("/cache"))
    };
    assert_eq!(pool(None).unwrap().dir, Path::new("/cache/granary"));
    assert_eq!(pool(Some("fast/a")).unwrap().dir, Path::new("/cache/fast/a"));
    for path in ["..", "../etc", "/etc", "a/../../etc", "", "."] {
        assert!(pool(Some(path)).is_err(), "{path}");
    }
}

#[test]
fn limits_are_read_as_sizes() {
    let cache =
        CacheSpec { max_size: Some(Quantity("1Gi".into())), min_free: Quantity("1M".into()), ..CacheSpec::default() };
    let class = class(DataStorageClassSpec { cache, ..DataStorageClassSpec::default() });
    let pool = manifest::pool(&class, Path::new("/cache")).unwrap();
    assert_eq!((pool.max_bytes, pool.min_free_bytes, pool.min_free_percent), (Some(1 << 30), 1_000_000, 20));
}
