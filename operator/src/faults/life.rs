//! The life of a dataset, from its class to its end, as acts of others that the operator answers each time.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use granary_crds::exchange::coding::Coding;
use granary_crds::exchange::{IndexResult, MEDIA_TYPE_EXTENTS, MEDIA_TYPE_IMAGE};
use http::Method;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::process::Operator;
use crate::reconcile::dataset::order::Outcome;
use crate::store::{Address, ClusterDesk, Desk, DeskSettings, JobRef, KubeReviewer, Refusal};
use crate::testing::server::Server;

const GRANARY: &str = "/apis/granary.dev/v1alpha1";
/// The dataset.
pub const DATASET: &str = "/apis/granary.dev/v1alpha1/namespaces/a/datasets/d";
const CLAIMS: &str = "/api/v1/namespaces/b/persistentvolumeclaims";

/// What others do, and then the operator.
pub struct Act {
    /// What happens.
    pub name: &'static str,
    /// What users, nodes and Kubernetes do.
    pub others: fn(&Server),
    /// What the Job that runs now finds, if one does.
    pub found: Option<&'static str>,
}

/// All acts.
pub const LIFE: [Act; 11] = [
    Act { name: "a class is made", others: class, found: None },
    Act { name: "a dataset and a grant are made", others: dataset, found: None },
    Act { name: "its Job reports", others: nothing, found: Some("first") },
    Act { name: "Kubernetes binds, and somebody else claims", others: borrower, found: None },
    Act { name: "the sources shall be looked at again", others: refresh, found: None },
    Act { name: "they have changed", others: nothing, found: Some("second") },
    Act { name: "a pod runs", others: pod, found: None },
    Act { name: "the dataset is deleted", others: deletion, found: None },
    Act { name: "the pod ends", others: end, found: None },
    Act { name: "the borrower gives up", others: give_up, found: None },
    Act { name: "the class is deleted", others: no_class, found: None },
];

/// What the operator does in an act: it takes what the Job reports, and comes to rest.
pub async fn answer(server: &Server, operator: &mut Operator, found: Option<&str>) {
    if let Some(listing) = found {
        report(server, operator, listing).await;
    }
    operator.settle().await;
}

fn nothing(_: &Server) {}

fn class(server: &Server) {
    for name in ["a", "b", "granary"] {
        server.told(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": name}}));
    }
    let class = json!({"metadata": {"name": "granary"}, "spec": {}});
    server.told(Method::POST, &format!("{GRANARY}/datastorageclasses"), class);
}

fn dataset(server: &Server) {
    let dataset = json!({
        "metadata": {"name": "d"},
        "spec": {"sources": [{"uri": "s3://b/"}], "credentials": {"secretRef": {"name": "keys"}}, "revisionHistoryLimit": 0},
    });
    server.told(Method::POST, &format!("{GRANARY}/namespaces/a/datasets"), dataset);
    let subjects = json!([{"kind": "Namespace", "name": "b"}]);
    let grant = json!({"metadata": {"name": "g"}, "spec": {"datasetRef": {"name": "d"}, "subjects": subjects}});
    server.told(Method::POST, &format!("{GRANARY}/namespaces/a/datasetgrants"), grant);
}

fn borrower(server: &Server) {
    bind(server);
    let claim = json!({
        "metadata": {"name": "loan", "annotations": {"granary.dev/dataset": "a/d"}},
        "spec": {"storageClassName": "granary", "accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Mi"}}},
    });
    server.told(Method::POST, CLAIMS, claim);
}

/// Binds claims to the volumes that were made for them.
fn bind(server: &Server) {
    for claim in server.all::<Value>("/api/v1/persistentvolumeclaims") {
        let (namespace, name) = (&claim["metadata"]["namespace"], &claim["metadata"]["name"]);
        let path = format!(
            "/api/v1/namespaces/{}/persistentvolumeclaims/{}",
            namespace.as_str().unwrap(),
            name.as_str().unwrap()
        );
        let volume = format!("granary-{}", claim["metadata"]["uid"].as_str().unwrap());
        server.told(Method::PATCH, &path, json!({"spec": {"volumeName": volume}, "status": {"phase": "Bound"}}));
    }
}

fn refresh(server: &Server) {
    bind(server);
    server.told(Method::PATCH, DATASET, json!({"spec": {"refresh": {"manual": "again"}}}));
}

fn pod(server: &Server) {
    server.told(Method::POST, &format!("{GRANARY}/nodecaches"), json!({"metadata": {"name": "n"}, "spec": {}}));
    let dataset: Value = server.all(&format!("{GRANARY}/datasets")).remove(0);
    let version = &dataset["status"]["currentVersion"]["name"];
    let report = json!({
        "uid": dataset["metadata"]["uid"], "namespace": "a", "name": "d", "cachedBytes": 1,
        "versions": [{"name": version, "podCount": 1}],
    });
    server.told(Method::PATCH, &format!("{GRANARY}/nodecaches/n"), json!({"status": {"datasets": [report]}}));
}

fn deletion(server: &Server) {
    server.told(Method::DELETE, DATASET, Value::Null);
}

fn end(server: &Server) {
    server.told(Method::PATCH, &format!("{GRANARY}/nodecaches/n"), json!({"status": {"datasets": []}}));
}

fn give_up(server: &Server) {
    server.told(Method::DELETE, &format!("{CLAIMS}/loan"), Value::Null);
}

fn no_class(server: &Server) {
    server.told(Method::DELETE, &format!("{GRANARY}/datastorageclasses/granary"), Value::Null);
}

/// What the pod of the Job under way does, as often as it has to: it asks what to do, sends its artifacts and says what it found.
async fn report(server: &Server, operator: &Operator, listing: &str) {
    let context = &operator.context;
    let desk = ClusterDesk::new(
        DeskSettings {
            client: context.client.clone(),
            reviewer: Arc::new(KubeReviewer::new(context.client.clone())),
            registry: Arc::clone(&context.registry),
            store: Arc::clone(&context.store),
            metrics: Arc::default(),
            node_username: "node".to_owned(),
        },
        Arc::default(),
    );
    let jobs: Vec<Job> = server.all("/apis/batch/v1/jobs");
    let Some(job) = jobs.iter().find(|job| Outcome::of(job).is_none()) else { return };
    let (namespace, uid) = (job.namespace().unwrap(), job.uid().unwrap());
    assert!(context.registry.has(&uid), "a Job that nobody believes was left to run");
    let job = JobRef { namespace, name: job.name_any(), uid };
    let assignment = match desk.assignment(&job).await {
        // Its result is known already.
        Err(Refusal::NotFound(_)) => return,
        assignment => assignment.unwrap(),
    };
    let parent = assignment.parent.as_ref();
    let blob = parent.map_or(&assignment.new_blob_id, |parent| &parent.blob_id);
    let mut artifacts = Vec::new();
    for (name, media_type) in [("image", MEDIA_TYPE_IMAGE), ("extents", MEDIA_TYPE_EXTENTS)] {
        let text = format!("{name} of {listing}");
        let address = Address::of(&Sha256::digest(&text));
        artifacts.push(json!({
            "name": name, "mediaType": media_type, "digest": address.to_string(), "sizeBytes": text.len(),
        }));
        let body = futures::stream::iter([Ok(Bytes::from(text))]).boxed();
        context.store.put(&address, Coding::Identity, body).await.unwrap();
    }
    let result = json!({
        "listingDigest": format!("sha256:{}", hex::encode(Sha256::digest(listing))), "fileCount": 1, "sizeBytes": 1,
        "blob": {"id": blob, "sizeBytes": 4096, "parentDigest": parent.map(|parent| &parent.extents.digest)},
        "artifacts": artifacts,
        "sources": [{"uri": "s3://b/", "fileCount": 1, "sizeBytes": 1, "pinnedBy": "ETag"}],
        "indexedTime": "2026-01-01T00:00:00Z", "indexerVersion": "0",
    });
    desk.result(&job, IndexResult::Ok(Box::new(serde_json::from_value(result).unwrap()))).await.unwrap();
}
