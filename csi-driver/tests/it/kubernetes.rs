//! What is said to the API server, and what is made of its answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use granary_crds::NodeCacheStatus;
use granary_csi_driver::cluster::{Cluster, KubernetesCluster};
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// Request line, content type and body of each call.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// A cluster whose API server gives these answers in turn.
fn cluster(answers: Vec<(u16, Value)>) -> (KubernetesCluster, Calls) {
    let calls = Calls::default();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let heard = calls.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (heard, answers) = (heard.clone(), answers.clone());
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect_bytes().await.unwrap();
            heard.lock().unwrap().push((line, serde_json::from_slice(&body).unwrap_or(Value::Null)));
            let (status, answer) = answers.lock().unwrap().pop_front().expect("one call too many");
            Ok::<_, Infallible>(
                Response::builder().status(status).body(Body::from(answer.to_string().into_bytes())).unwrap(),
            )
        }
    });
    (KubernetesCluster::new(Client::new(service, "default"), "node1".into()), calls)
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "as told", "reason": reason, "code": code}),
    )
}

#[tokio::test]
async fn what_is_not_there_is_none_and_what_is_forbidden_an_error() {
    let (cluster, calls) = cluster(vec![failure(404, "NotFound"), failure(403, "Forbidden")]);
    assert!(cluster.dataset("vision", "imagenet").await.unwrap().is_none());
    let error = cluster.class("granary").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("get DataStorageClass 'granary'") && text.contains("as told") && !error.away, "{text}");
    let lines: Vec<String> = calls.lock().unwrap().iter().map(|(line, _)| line.clone()).collect();
    assert_eq!(
        lines,
        [
            "GET /apis/granary.dev/v1alpha1/namespaces/vision/datasets/imagenet",
            "GET /apis/granary.dev/v1alpha1/datastorageclasses/granary"
        ]
    );
}

#[tokio::test]
async fn who_cannot_answer_now_is_away_and_who_refuses_is_not() {
    let codes =
        [(429, true), (500, true), (503, true), (504, true), (400, false), (401, false), (403, false), (410, false)];
    for (code, away) in codes {
        let (cluster, _) = cluster(vec![failure(code, "Reason")]);
        assert_eq!(cluster.dataset("vision", "imagenet").await.unwrap_err().away, away, "{code}");
    }
}

#[tokio::test]
async fn versions_are_asked_for_by_label() {
    let list = json!({"apiVersion": "granary.dev/v1alpha1", "kind": "DatasetVersionList", "metadata": {}, "items": []});
    let (cluster, calls) = cluster(vec![(200, list)]);
    assert!(cluster.versions("vision", "imagenet").await.unwrap().is_empty());
    let line = calls.lock().unwrap()[0].0.clone();
    assert!(
        line.ends_with("/namespaces/vision/datasetversions?&labelSelector=granary.dev%2Fdataset%3Dimagenet"),
        "{line}"
    );
}

#[tokio::test]
async fn a_first_report_makes_the_nodecache_which_goes_with_the_node() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", "uid": "node-uid"}});
    let cache = json!({"apiVersion": "granary.dev/v1alpha1", "kind": "NodeCache", "metadata": {"name": "node1"}});
    let answers = vec![failure(404, "NotFound"), (200, node), (201, cache.clone()), (200, cache)];
    let (cluster, calls) = cluster(answers);
    cluster.put_node_cache(&NodeCacheStatus::default()).await.unwrap();
    let calls = calls.lock().unwrap();
    let path = |at: usize| calls[at].0.split('?').next().unwrap().to_owned();
    assert_eq!(path(0), "PATCH /apis/granary.dev/v1alpha1/nodecaches/node1/status");
    assert_eq!(path(1), "GET /api/v1/nodes/node1");
    assert_eq!(path(2), "PATCH /apis/granary.dev/v1alpha1/nodecaches/node1");
    assert_eq!(path(3), path(0));
    let owner = &calls[2].1["metadata"]["ownerReferences"][0];
    assert_eq!((owner["kind"].as_str(), owner["uid"].as_str()), (Some("Node"), Some("node-uid")));
    assert!(calls[2].1.get("status").is_none(), "a status is written by its own way");
    assert_eq!(calls[3].1["metadata"], json!({"name": "node1"}));
}

#[tokio::test]
async fn a_warning_is_an_event_on_the_node() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", "uid": "node-uid"}});
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "x", "namespace": "default"}, "eventTime": null});
    let (cluster, calls) = cluster(vec![(200, node), (201, event)]);
    cluster.warn("KernelUnsupported", "no EROFS").await.unwrap();
    let calls = calls.lock().unwrap();
    assert!(calls[1].0.starts_with("POST /apis/events.k8s.io/v1/namespaces/default/events"), "{}", calls[1].0);
    let event = &calls[1].1;
    assert_eq!((event["reason"].as_str(), event["note"].as_str()), (Some("KernelUnsupported"), Some("no EROFS")));
    assert_eq!(
        (event["regarding"]["kind"].as_str(), event["regarding"]["uid"].as_str()),
        (Some("Node"), Some("node-uid"))
    );
    assert_eq!(event["type"], "Warning");
}
