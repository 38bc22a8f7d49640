//! Several requests at once.

use tonic::Code;

use crate::driver::Driver;

#[tokio::test]
async fn a_second_request_for_a_target_is_aborted_and_others_go_on() {
    let driver = Driver::start().await;
    let gate = driver.mounter.hold().await;
    let mut node = driver.node().await;
    let first = tokio::spawn({
        let request = driver.request("a");
        async move { node.node_publish_volume(request).await }
    });
    driver.mounter.entered.acquire().await.unwrap().forget();

    driver.refuses(driver.request("a"), Code::Aborted, &["under way"]).await;
    assert_eq!(driver.unpublish("a").await.unwrap_err().code(), Code::Aborted);
    driver.unpublish("b").await.unwrap();

    drop(gate);
    first.await.unwrap().unwrap();
    driver.publish(driver.request("a")).await.unwrap();
    assert_eq!(driver.mounter.change(|mounts| mounts.count), 1);
}

#[tokio::test]
async fn many_pods_of_one_volume_start_at_once() {
    let driver = Driver::start().await;
    let gate = driver.mounter.hold().await;
    let mut pods = Vec::new();
    for pod in 0..20 {
        let (mut node, request) = (driver.node().await, driver.request(&pod.to_string()));
        pods.push(tokio::spawn(async move { node.node_publish_volume(request).await }));
    }
    driver.mounter.entered.acquire_many(20).await.unwrap().forget();
    drop(gate);
    for pod in pods {
        pod.await.unwrap().unwrap();
    }
    assert_eq!(driver.mounter.change(|mounts| mounts.published.len()), 20);
}

#[tokio::test]
async fn a_request_is_worked_on_to_its_end_though_its_caller_is_gone() {
    let driver = Driver::start().await;
    let gate = driver.mounter.hold().await;
    let mut node = driver.node().await;
    let request = driver.request("a");
    let abandoned = tokio::spawn(async move { node.node_publish_volume(request).await });
    driver.mounter.entered.acquire().await.unwrap().forget();
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    driver.refuses(driver.request("a"), Code::Aborted, &["under way"]).await;
    drop(gate);
    while let Err(status) = driver.publish(driver.request("a")).await {
        assert_eq!(status.code(), Code::Aborted);
    }
    assert_eq!(driver.mounter.change(|mounts| mounts.count), 1);
}
