use super::*;
use crate::store::{Address, Directory, Identity};
use crate::testing::FakeApi;
use futures::StreamExt;
use granary_crds::exchange::coding::Coding;
use granary_crds::exchange::{MEDIA_TYPE_EXTENTS, MEDIA_TYPE_IMAGE};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Tokens are `<username>` or `<username> <pod>/<pod uid>`.
struct FakeReviewer;

#[async_trait]
impl Reviewer for FakeReviewer {
    async fn review(&self, token: &str) -> Result<Option<Identity>, kube::Error> {
        let (username, pod) = token.split_once(' ').map_or((token, None), |(name, pod)| (name, Some(pod)));
        let pod = pod.and_then(|pod| pod.split_once('/')).map(|(name, uid)| (name.to_owned(), uid.to_owned()));
        Ok((!token.is_empty()).then(|| Identity { username: username.to_owned(), pod }))
    }
}

const NODE: &str = "system:serviceaccount:granary:granary-node";
const JOBS: &str = "system:serviceaccount:a:default";

fn dataset() -> Value {
    json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"name": "d", "namespace": "a", "uid": "d-uid", "resourceVersion": "1"},
        "spec": {"sources": [{"uri": "s3://b/"}], "storageClassName": "granary"},
    })
}

fn job(uid: &str, sources: &str) -> Value {
    let order = json!({"sources": sources, "attempt": 1}).to_string();
    json!({
        "metadata": {
            "name": "j", "namespace": "a", "uid": uid,
            "labels": {names::DATASET_UID_LABEL: "d-uid", DATASET_LABEL: "d"},
            "annotations": {names::ORDER_ANNOTATION: order},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Dataset", "name": "d", "uid": "d-uid", "controller": true}],
        },
    })
}

fn current_sources() -> String {
    let dataset: Dataset = serde_json::from_value(dataset()).unwrap();
    sources_hash(&dataset.spec)
}

fn pod(name: &str, uid: &str, job: &str) -> Value {
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job, "controller": true});
    json!({"metadata": {"name": name, "uid": uid, "ownerReferences": [owner]}})
}

fn api() -> FakeApi {
    let list = |items: Vec<Value>| json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    FakeApi::default()
        .with("/api/v1/namespaces/a/pods/p", pod("p", "p-uid", "job-uid"))
        .with("/api/v1/namespaces/a/pods/forged", pod("forged", "f-uid", "other-job"))
        .with("/apis/batch/v1/namespaces/a/jobs/j", job("job-uid", &current_sources()))
        .with("/apis/granary.dev/v1alpha1/namespaces/a/datasets", list(vec![dataset()]))
        .with("/apis/granary.dev/v1alpha1/namespaces/a/datasetversions", list(Vec::new()))
        .with(
            "/apis/granary.dev/v1alpha1/datastorageclasses/granary",
            json!({"metadata": {"name": "granary"}, "spec": {}}),
        )
}

async fn desk(api: &FakeApi, dir: &std::path::Path) -> ClusterDesk {
    let registry = JobRegistry::open(dir).unwrap();
    registry.add("job-uid").unwrap();
    let settings = DeskSettings {
        client: api.client(),
        reviewer: Arc::new(FakeReviewer),
        registry: Arc::new(registry),
        store: Arc::new(Directory::open(dir, 1000).await.unwrap()),
        metrics: Arc::default(),
        node_username: NODE.to_owned(),
    };
    ClusterDesk::new(settings, Arc::default())
}

fn reference() -> JobRef {
    JobRef { namespace: "a".to_owned(), name: "j".to_owned(), uid: "job-uid".to_owned() }
}

/// Stores `text` and names it as an artifact.
async fn stored(desk: &ClusterDesk, name: &str, media_type: &str, text: &'static str) -> Value {
    let address = Address::of(&Sha256::digest(text));
    let body = futures::stream::iter([Ok(bytes::Bytes::from_static(text.as_bytes()))]).boxed();
    desk.settings.store.put(&address, Coding::Identity, body).await.unwrap();
    json!({"name": name, "mediaType": media_type, "digest": address.to_string(), "sizeBytes": text.len()})
}

async fn result(desk: &ClusterDesk) -> IndexResult {
    let artifacts = [
        stored(desk, "image", MEDIA_TYPE_IMAGE, "image").await,
        stored(desk, "extents", MEDIA_TYPE_EXTENTS, "extents").await,
    ];
    let version = json!({
        "listingDigest": format!("sha256:{}", "0".repeat(64)), "fileCount": 1, "sizeBytes": 1,
        "blob": {"id": "job-uid", "sizeBytes": 4096}, "artifacts": artifacts,
        "sources": [{"uri": "s3://b/", "fileCount": 1, "sizeBytes": 1, "pinnedBy": "ETag"}],
        "indexedTime": "2026-01-01T00:00:00Z", "indexerVersion": "0",
    });
    IndexResult::Ok(Box::new(serde_json::from_value(version).unwrap()))
}

#[tokio::test]
async fn only_nodes_and_pods_of_our_own_jobs_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(&api(), dir.path()).await;
    assert_eq!(desk.caller(NODE).await.unwrap(), Caller::Node);
    assert_eq!(desk.caller(&format!("{JOBS} p/p-uid")).await.unwrap(), Caller::Job(reference()));
    for (token, why) in [
        (JOBS.to_owned(), "a token that is bound to no pod"),
        (format!("{JOBS} p/earlier-uid"), "a pod that is gone"),
        (format!("{JOBS} forged/f-uid"), "a Job that somebody else made"),
        (format!("{JOBS} missing/m-uid"), "no such pod"),
        ("admin".to_owned(), "a user"),
        ("system:serviceaccount:other:granary-node".to_owned(), "the service account's name in another namespace"),
    ] {
        assert!(matches!(desk.caller(&token).await, Err(Refusal::Forbidden(_))), "{why}");
    }
    assert!(matches!(desk.caller("").await, Err(Refusal::Unauthenticated)));
}

#[tokio::test]
async fn a_result_makes_the_version_and_then_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let api = api();
    let desk = desk(&api, dir.path()).await;
    let assignment = desk.assignment(&reference()).await.unwrap();
    assert_eq!((assignment.parent, assignment.new_blob_id.as_str()), (None, "job-uid"));
    let result = result(&desk).await;
    desk.result(&reference(), result).await.unwrap();
    let written = api.written();
    assert_eq!(
        api.writes(),
        ["POST /apis/granary.dev/v1alpha1/namespaces/a/datasetversions", "PATCH /apis/batch/v1/namespaces/a/jobs/j",]
    );
    let version = &written[0].body;
    assert_eq!((version["spec"]["revision"].as_i64(), version["spec"]["datasetName"].as_str()), (Some(1), Some("d")));
    assert_eq!(version["metadata"]["ownerReferences"][0]["uid"], "d-uid");
    let outcome = written[1].body["metadata"]["annotations"][names::OUTCOME_ANNOTATION].as_str().unwrap();
    let outcome: Outcome = serde_json::from_str(outcome).unwrap();
    assert!(matches!(outcome, Outcome::Version { name, .. } if version["metadata"]["name"] == name));
}

#[test]
fn a_result_is_newer_than_what_is_known_though_the_clock_was_set_back() {
    let now = Timestamp::now();
    let looked = |at: Timestamp| -> Dataset {
        let look = Look { sources: String::new(), pin: None, version: "d-1".to_owned(), time: at };
        let mut dataset = dataset();
        dataset["metadata"]["annotations"] = json!({names::LOOK_ANNOTATION: serde_json::to_string(&look).unwrap()});
        serde_json::from_value(dataset).unwrap()
    };
    let day = SignedDuration::from_hours(24);
    assert_eq!(after_the_last_look(&serde_json::from_value(dataset()).unwrap(), now), now);
    assert_eq!(after_the_last_look(&looked(now - day), now), now);
    assert!(after_the_last_look(&looked(now + day), now) > now + day);
}

#[tokio::test]
async fn nothing_is_committed_that_the_store_does_not_hold_or_that_was_not_assigned() {
    let dir = tempfile::tempdir().unwrap();
    let api = api();
    let desk = desk(&api, dir.path()).await;
    let complete = result(&desk).await;
    let refused = desk.result(&reference(), complete.clone()).await;
    assert!(matches!(refused, Err(Refusal::Conflict(_))), "no assignment: the operator may have restarted");

    desk.assignment(&reference()).await.unwrap();
    let IndexResult::Ok(mut incomplete) = complete else { panic!("made above") };
    incomplete.artifacts[0].size_bytes += 1;
    assert!(matches!(desk.result(&reference(), IndexResult::Ok(incomplete)).await, Err(Refusal::Bad(_))));
    assert!(api.writes().is_empty());
}

#[tokio::test]
async fn an_overtaken_job_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let api = api().with("/apis/batch/v1/namespaces/a/jobs/j", job("job-uid", "hash of other sources"));
    let overtaken = desk(&api, dir.path()).await;
    assert!(matches!(overtaken.assignment(&reference()).await, Err(Refusal::NotFound(_))));
    let api = api.with("/apis/batch/v1/namespaces/a/jobs/j", job("another-uid", &current_sources()));
    let replaced = desk(&api, dir.path()).await;
    assert!(matches!(replaced.assignment(&reference()).await, Err(Refusal::NotFound(_))));
}

#[tokio::test]
async fn a_failure_is_recorded_with_a_reason_that_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let api = api();
    let desk = desk(&api, dir.path()).await;
    let failure =
        |reason: &str| IndexResult::Failed(IndexFailure { reason: reason.to_owned(), message: "m".to_owned() });
    assert!(matches!(desk.result(&reference(), failure("not a reason")).await, Err(Refusal::Bad(_))));
    desk.result(&reference(), failure("BucketNotFound")).await.unwrap();
    assert_eq!(api.writes(), ["PATCH /apis/batch/v1/namespaces/a/jobs/j"]);
}
