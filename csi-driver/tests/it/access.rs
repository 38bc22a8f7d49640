//! Nothing that the author of a pod, a claim or a volume can write gets at what is not theirs.

use tonic::Code;

use crate::cluster::{dataset, grant, with_secret};
use crate::driver::Driver;

const OTHERS: [(&str, &str); 2] =
    [("csi.storage.k8s.io/pod.namespace", "team-b"), ("csi.storage.k8s.io/serviceAccount.name", "trainer")];

#[tokio::test]
async fn a_hand_made_volume_of_anothers_dataset() {
    let driver = Driver::start().await;
    let words = ["vision/imagenet", "trainer", "team-b", "DatasetGrant in namespace 'vision'"];
    driver.refuses(driver.request_with("a", &OTHERS), Code::PermissionDenied, &words).await;
}

#[tokio::test]
async fn a_grant_opens_and_its_end_closes_for_the_next_pod() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.grants.push(grant("team-b")));
    driver.publish(driver.request_with("a", &OTHERS)).await.unwrap();
    driver.cluster.change(|objects| objects.grants.clear());
    driver.refuses(driver.request_with("b", &OTHERS), Code::PermissionDenied, &["not granted"]).await;
    // The pod that runs keeps what it has.
    driver.publish(driver.request_with("a", &OTHERS)).await.unwrap();
    assert!(driver.mounter.version_at(&driver.target("a")).is_some());
}

#[tokio::test]
async fn existence_is_not_told_to_others() {
    let driver = Driver::start().await;
    let there = driver.publish(driver.request_with("a", &OTHERS)).await.unwrap_err();
    driver.cluster.change(|objects| objects.datasets.clear());
    let gone = driver.publish(driver.request_with("a", &OTHERS)).await.unwrap_err();
    assert_eq!((there.code(), there.message()), (gone.code(), gone.message()));
}

#[tokio::test]
async fn no_pod_information_no_mount() {
    let driver = Driver::start().await;
    let request = driver.request_with("a", &[("csi.storage.k8s.io/pod.namespace", "")]);
    driver.refuses(request, Code::PermissionDenied, &["podInfoOnMount"]).await;
    let request = driver.request_with("a", &[("csi.storage.k8s.io/ephemeral", "")]);
    driver.refuses(request, Code::PermissionDenied, &["podInfoOnMount"]).await;
}

#[tokio::test]
async fn a_volume_of_an_earlier_dataset_of_that_name() {
    let driver = Driver::start().await;
    let request = driver.request_with("a", &[("uid", "00000000-0000-4000-8000-00000000000f")]);
    driver.refuses(request, Code::PermissionDenied, &["deleted and created again"]).await;
}

#[tokio::test]
async fn an_inline_volume_with_attributes_of_the_operator() {
    let driver = Driver::start().await;
    for key in ["namespace", "uid", "secretName"] {
        let request = driver.inline("a", &[(key, "vision")]);
        driver.refuses(request, Code::InvalidArgument, &[key, "use a claim"]).await;
    }
}

#[tokio::test]
async fn an_inline_volume_sees_only_its_own_namespace() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.grants.push(grant("team-b")));
    driver.refuses(driver.inline("a", &OTHERS), Code::NotFound, &["namespace 'team-b' has no Dataset"]).await;
    driver.publish(driver.inline("b", &[])).await.unwrap();
}

#[tokio::test]
async fn an_inline_volume_of_a_dataset_with_a_secret() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.datasets = vec![with_secret(dataset())]);
    let mut request = driver.inline("a", &[]);
    request.secrets.insert("AWS_ACCESS_KEY_ID".into(), "the author's".into());
    driver.refuses(request, Code::PermissionDenied, &["use a claim", "claimName: imagenet"]).await;
}

#[tokio::test]
async fn keys_of_an_inline_volumes_author_never_reach_the_cache() {
    let driver = Driver::start().await;
    let mut request = driver.inline("a", &[]);
    request.secrets.insert("ca.crt".into(), "the author's".into());
    driver.publish(request.clone()).await.unwrap();
    driver.publish(request).await.unwrap();
    let secret = driver.mounter.change(|mounts| mounts.published.values().next().unwrap().secret.clone());
    assert_eq!(secret, None);
    assert!(driver.mounter.change(|mounts| mounts.refreshed.is_empty()));
}

#[tokio::test]
async fn a_version_that_is_somebody_elses() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.versions[1].metadata.owner_references = None);
    driver.refuses(driver.request("a"), Code::NotFound, &["has no version"]).await;
    let first = driver.request_with("b", &[("version", "../../secrets/s3-read")]);
    driver.refuses(first, Code::InvalidArgument, &["'version'"]).await;
}
