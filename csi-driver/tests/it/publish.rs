//! From a request to a mount.

use granary_crds::conditions::{reasons, types};
use granary_crds::dataset::DatasetStatus;
use granary_crds::{Condition, Time};
use granary_csi_driver::health::tell_of_kernel;
use granary_csi_driver::mounter::{MountError, Secret};
use granary_csi_driver::proto::csi::volume_capability::access_mode::Mode;
use granary_csi_driver::proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume};
use granary_csi_driver::proto::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use tonic::Code;

use crate::cluster::{dataset, imagenet, listing, version, with_secret};
use crate::driver::Driver;

#[tokio::test]
async fn a_pod_gets_the_version_that_is_current_when_it_starts() {
    let driver = Driver::start().await;
    driver.publish(driver.request("a")).await.unwrap();
    driver.cluster.change(|objects| {
        let status = objects.datasets[0].status.as_mut().unwrap();
        status.current_version.as_mut().unwrap().name = imagenet(3);
    });
    driver.publish(driver.request("b")).await.unwrap();
    assert_eq!(driver.mounter.version_at(&driver.target("a")), Some(imagenet(2)));
    assert_eq!(driver.mounter.version_at(&driver.target("b")), Some(imagenet(3)));
}

#[tokio::test]
async fn whether_all_is_filled_is_the_datasets_word_when_the_pod_starts() {
    let driver = Driver::start().await;
    driver.publish(driver.request("a")).await.unwrap();
    // No new version: the object that is mounted is the same.
    driver.cluster.change(|objects| objects.datasets[0].spec.preload = true);
    driver.publish(driver.request("b")).await.unwrap();
    let preload = |pod| driver.mounter.change(|mounts| mounts.published[&driver.target(pod)].dataset.spec.preload);
    assert_eq!((preload("a"), preload("b")), (false, true));
    assert_eq!(driver.mounter.version_at(&driver.target("a")), driver.mounter.version_at(&driver.target("b")));
}

#[tokio::test]
async fn a_fixed_version_by_name_or_digest() {
    let driver = Driver::start().await;
    driver.publish(driver.request_with("a", &[("version", &imagenet(1))])).await.unwrap();
    driver.publish(driver.request_with("b", &[("version", &listing(3))])).await.unwrap();
    assert_eq!(driver.mounter.version_at(&driver.target("a")), Some(imagenet(1)));
    assert_eq!(driver.mounter.version_at(&driver.target("b")), Some(imagenet(3)));
    driver
        .refuses(
            driver.request_with("c", &[("version", "imagenet-0000000000")]),
            Code::NotFound,
            &["imagenet-0000000000"],
        )
        .await;
    driver.refuses(driver.request_with("d", &[("version", &listing(9))]), Code::NotFound, &[&listing(9)]).await;
}

#[tokio::test]
async fn a_digest_whose_label_lies_is_not_taken() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| {
        let mut foreign = version(9);
        foreign.metadata.owner_references = None;
        objects.versions.push(foreign);
    });
    driver.refuses(driver.request_with("a", &[("version", &listing(9))]), Code::NotFound, &[&listing(9)]).await;
}

#[tokio::test]
async fn without_a_version_the_condition_speaks() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| {
        objects.datasets[0].status = Some(DatasetStatus {
            conditions: vec![Condition {
                type_: types::READY.into(),
                status: "False".into(),
                reason: reasons::SECRET_NOT_FOUND.into(),
                message: "create the Secret 's3-read'".into(),
                observed_generation: None,
                last_transition_time: Time("2026-01-01T00:00:00Z".parse().unwrap()),
            }],
            ..DatasetStatus::default()
        });
    });
    driver
        .refuses(driver.request("a"), Code::FailedPrecondition, &["SecretNotFound", "create the Secret 's3-read'"])
        .await;
}

#[tokio::test]
async fn a_republish_brings_new_keys_and_always_succeeds() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.datasets = vec![with_secret(dataset())]);
    let keys = |value: &str| Secret([("AWS_SECRET_ACCESS_KEY".to_owned(), value.to_owned())].into());
    let request = |value: &str| {
        let mut request = driver.request("a");
        request.secrets.extend(keys(value).0);
        request
    };
    driver.publish(request("old")).await.unwrap();
    assert_eq!(
        driver.mounter.change(|mounts| mounts.published.values().next().unwrap().secret.clone()),
        Some(keys("old"))
    );
    driver.cluster.change(|objects| {
        objects.datasets.clear();
        objects.down = true;
    });
    driver.mounter.change(|mounts| mounts.unsupported = Some("a module was unloaded".into()));
    let mut again = request("new");
    again.volume_capability = None;
    again.volume_context.remove("dataset");
    driver.publish(again).await.unwrap();
    assert_eq!(driver.mounter.change(|mounts| mounts.refreshed.clone()), [("pv-1".to_owned(), keys("new"))]);
    assert_eq!(driver.mounter.change(|mounts| mounts.count), 1);
}

#[tokio::test]
async fn a_volume_without_the_datasets_keys() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.datasets = vec![with_secret(dataset())]);
    driver.refuses(driver.request("a"), Code::FailedPrecondition, &["s3-read"]).await;
}

#[tokio::test]
async fn other_kinds_of_volumes_are_refused_with_a_sentence() {
    let driver = Driver::start().await;
    let capability = |change: fn(&mut NodePublishVolumeRequest)| {
        let mut request = driver.request("a");
        change(&mut request);
        request
    };
    let block = capability(|request| {
        request.volume_capability.as_mut().unwrap().access_type = Some(AccessType::Block(BlockVolume {}));
    });
    driver.refuses(block, Code::InvalidArgument, &["volumeMode: Filesystem"]).await;
    let writer = capability(|request| {
        let mode = Mode::MultiNodeMultiWriter.into();
        request.volume_capability.as_mut().unwrap().access_mode = Some(AccessMode { mode });
    });
    driver.refuses(writer, Code::InvalidArgument, &["ReadOnlyMany"]).await;
    for change in [
        (|request| request.volume_capability = None) as fn(&mut NodePublishVolumeRequest),
        |request| request.volume_id.clear(),
        |request| request.target_path.clear(),
        |request| drop(request.volume_context.remove("uid")),
    ] {
        driver.refuses(capability(change), Code::InvalidArgument, &[]).await;
    }
    // Whether readonly is asked for or not makes no difference.
    driver.publish(capability(|request| request.readonly = false)).await.unwrap();
}

#[tokio::test]
async fn a_kernel_that_cannot() {
    let driver = Driver::start().await;
    driver.mounter.change(|mounts| mounts.unsupported = Some("the kernel has no EROFS (modprobe erofs)".into()));
    driver.refuses(driver.request("a"), Code::FailedPrecondition, &["modprobe erofs"]).await;
    assert!(driver.parts.health().unready().unwrap().starts_with("KernelUnsupported"));
    tell_of_kernel(driver.cluster.as_ref(), driver.mounter.as_ref()).await;
    let told = driver.cluster.change(|objects| std::mem::take(&mut objects.warnings));
    assert_eq!(told, ["KernelUnsupported: the kernel has no EROFS (modprobe erofs)"]);
    driver.mounter.change(|mounts| mounts.unsupported = None);
    tell_of_kernel(driver.cluster.as_ref(), driver.mounter.as_ref()).await;
    assert!(driver.cluster.change(|objects| objects.warnings.is_empty()));
}

#[tokio::test]
async fn an_api_server_that_is_away() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.down = true);
    driver.refuses(driver.request("a"), Code::Unavailable, &["away", "has not heard of this"]).await;
}

#[tokio::test]
async fn a_class_that_is_not_there() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.classes.clear());
    driver.refuses(driver.request("a"), Code::FailedPrecondition, &["DataStorageClass 'granary'"]).await;
}

#[tokio::test]
async fn failures_of_the_data_plane() {
    let driver = Driver::start().await;
    for (failure, code) in [
        ((|| MountError::Artifact("image".into())) as fn() -> MountError, Code::Unavailable),
        (|| MountError::Cache("disk".into()), Code::Unavailable),
        (|| MountError::Invalid("format".into()), Code::FailedPrecondition),
        (|| MountError::Failed("mount".into()), Code::Internal),
    ] {
        driver.mounter.change(|mounts| mounts.failure = Some(failure));
        driver.refuses(driver.request("a"), code, &[]).await;
    }
}

#[tokio::test]
async fn unpublishing_twice_or_nothing_succeeds() {
    let driver = Driver::start().await;
    driver.unpublish("a").await.unwrap();
    driver.publish(driver.request("a")).await.unwrap();
    driver.unpublish("a").await.unwrap();
    driver.unpublish("a").await.unwrap();
    assert_eq!(driver.mounter.version_at(&driver.target("a")), None);
    let nameless = NodeUnpublishVolumeRequest { volume_id: String::new(), target_path: "/a".into() };
    assert_eq!(driver.node().await.node_unpublish_volume(nameless).await.unwrap_err().code(), Code::InvalidArgument);
}
