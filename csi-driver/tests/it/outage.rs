//! The API server is away: pods start on what it said before, for a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use granary_crds::node_cache::{DatasetReport, VersionReport};
use granary_csi_driver::cluster::{Cluster, KubernetesCluster, Remembering};
use tokio::net::TcpListener;
use tonic::Code;

use crate::cluster::{UID, dataset, grant, imagenet, listing};
use crate::driver::Driver;

const OTHERS: [(&str, &str); 2] =
    [("csi.storage.k8s.io/pod.namespace", "team-b"), ("csi.storage.k8s.io/serviceAccount.name", "trainer")];

fn goes(driver: &Driver) {
    driver.cluster.change(|objects| objects.down = true);
}

#[tokio::test]
async fn a_known_version_is_published_and_an_unknown_one_refused_with_a_reason() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.grants.push(grant("team-b")));
    driver.publish(driver.request("own")).await.unwrap();
    driver.publish(driver.request_with("granted", &OTHERS)).await.unwrap();
    driver.publish(driver.request_with("by-digest", &[("version", &listing(3))])).await.unwrap();
    goes(&driver);
    driver.publish(driver.request("next")).await.unwrap();
    driver.publish(driver.request_with("next-granted", &OTHERS)).await.unwrap();
    driver.publish(driver.request_with("next-by-digest", &[("version", &listing(3))])).await.unwrap();
    assert_eq!(driver.mounter.version_at(&driver.target("next")), Some(imagenet(2)));
    assert_eq!(driver.mounter.version_at(&driver.target("next-granted")), Some(imagenet(2)));
    assert_eq!(driver.mounter.version_at(&driver.target("next-by-digest")), Some(imagenet(3)));
    // Nobody asked for this one before.
    let unknown = driver.request_with("unknown", &[("version", &imagenet(1))]);
    driver.refuses(unknown, Code::Unavailable, &["away", "has not heard of this", "--access-max-age-seconds"]).await;
}

#[tokio::test]
async fn memory_opens_nothing_that_the_api_server_would_not_have_opened() {
    let driver = Driver::start().await;
    driver.publish(driver.request("own")).await.unwrap();
    driver.refuses(driver.request_with("a", &OTHERS), Code::PermissionDenied, &["not granted"]).await;
    driver.cluster.change(|objects| objects.grants.push(grant("team-b")));
    goes(&driver);
    // It was granted, but nobody could tell.
    driver.refuses(driver.request_with("a", &OTHERS), Code::PermissionDenied, &["not granted"]).await;
    let elsewhere = [OTHERS[0], ("uid", "00000000-0000-4000-8000-00000000000f")];
    driver.refuses(driver.request_with("a", &elsewhere), Code::PermissionDenied, &["not granted"]).await;
    let recreated = driver.request_with("a", &[("uid", "00000000-0000-4000-8000-00000000000f")]);
    driver.refuses(recreated, Code::PermissionDenied, &["deleted and created again"]).await;
}

#[tokio::test]
async fn what_it_says_when_it_is_back_counts_at_once() {
    let driver = Driver::start().await;
    driver.cluster.change(|objects| objects.grants.push(grant("team-b")));
    driver.publish(driver.request_with("a", &OTHERS)).await.unwrap();
    driver.cluster.change(|objects| {
        objects.down = true;
        objects.grants.clear();
    });
    driver.publish(driver.request_with("b", &OTHERS)).await.unwrap();
    driver.cluster.change(|objects| objects.down = false);
    driver.refuses(driver.request_with("c", &OTHERS), Code::PermissionDenied, &["not granted"]).await;
    goes(&driver);
    driver.refuses(driver.request_with("c", &OTHERS), Code::PermissionDenied, &["not granted"]).await;
}

#[tokio::test]
async fn beyond_its_age_it_does_not_count() {
    // A bound that is over before the next question.
    let driver = Driver::start_with(Duration::from_nanos(1)).await;
    driver.publish(driver.request("a")).await.unwrap();
    goes(&driver);
    driver.refuses(driver.request("b"), Code::Unavailable, &["away", "ago counts for 0 s only"]).await;
    let driver = Driver::start_with(Duration::ZERO).await;
    driver.publish(driver.request("a")).await.unwrap();
    goes(&driver);
    driver.refuses(driver.request("b"), Code::Unavailable, &["relies on nothing that it said before"]).await;
    // The pod that runs keeps what it has.
    driver.publish(driver.request("a")).await.unwrap();
}

#[tokio::test]
async fn what_is_published_is_asked_about_again_after_a_restart() {
    let driver = Driver::start().await;
    let version = VersionReport { name: imagenet(2), pod_count: 1, ..VersionReport::default() };
    let report = DatasetReport {
        uid: UID.into(),
        namespace: "vision".into(),
        name: "imagenet".into(),
        versions: vec![version],
        ..DatasetReport::default()
    };
    // As a process finds it that takes over mounts.
    driver.mounter.change(|mounts| mounts.datasets = vec![report]);
    driver.cluster.change(|objects| objects.grants.push(grant("team-b")));
    driver.remembering.ask_again(driver.mounter.as_ref()).await;
    driver.remembering.classes().await.unwrap();
    goes(&driver);
    driver.publish(driver.request("a")).await.unwrap();
    driver.publish(driver.request_with("b", &OTHERS)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_ends_is_away_on_the_wire_too() {
    // Another test may have chosen one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Each answer on a connection of its own: what is open would outlive the server.
    const CLOSE: [(&str, &str); 1] = [("connection", "close")];
    let answer = Arc::new(AtomicBool::new(true));
    let router = Router::new().fallback(move || {
        let first = answer.swap(false, Ordering::Relaxed);
        async move {
            match first {
                true => (CLOSE, axum::Json(dataset())).into_response(),
                false => (StatusCode::FORBIDDEN, CLOSE).into_response(),
            }
        }
    });
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let api_server = KubernetesCluster::new(kube::Client::try_from(config).unwrap(), "node1".into());
    let cluster = Remembering::new(Arc::new(api_server), Duration::from_secs(3600));
    assert!(cluster.dataset("vision", "imagenet").await.unwrap().is_some());
    // A refusal is an answer.
    let refused = cluster.dataset("vision", "imagenet").await.unwrap_err();
    assert!(!refused.away, "{refused}");
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert_eq!(cluster.dataset("vision", "imagenet").await.unwrap(), Some(dataset()));
    let unknown = cluster.dataset("vision", "other").await.unwrap_err();
    assert!(unknown.away && unknown.to_string().contains("has not heard of this"), "{unknown}");
}
