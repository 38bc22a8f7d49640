//! Plans carried out against an API server that remembers what it was asked.

use std::sync::Arc;

use granary_crds::{Dataset, DatasetStatus};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::apply;
use super::job::JobSettings;
use super::observe::Observed;
use super::order::{Look, Order};
use super::plan::Plan;
use crate::events::Events;
use crate::reconcile::{Context, ReconcileError};
use crate::store::{Directory, JobRegistry};
use crate::testing::FakeApi;
use crate::world::{Watched, World};

const DATASET: &str = "/apis/granary.dev/v1alpha1/namespaces/a/datasets/d";
const JOBS: &str = "/apis/batch/v1/namespaces/a/jobs";

fn world() -> World {
    World {
        datasets: Watched::fixed(Vec::new()),
        versions: Watched::fixed(Vec::new()),
        classes: Watched::fixed(Vec::new()),
        grants: Watched::fixed(Vec::new()),
        nodes: Watched::fixed(Vec::new()),
        claims: Watched::fixed(Vec::new()),
        volumes: Watched::fixed(Vec::new()),
        storage_classes: Watched::fixed(Vec::new()),
        jobs: Watched::fixed(Vec::new()),
    }
}

async fn context(api: &FakeApi, dir: &std::path::Path) -> Context {
    Context {
        client: api.client(),
        world: world(),
        store: Arc::new(Directory::open(dir, 1000).await.unwrap()),
        registry: Arc::new(JobRegistry::open(dir).unwrap()),
        events: Events::new(api.client(), "test"),
        metrics: Arc::default(),
        jobs: JobSettings {
            namespace: "granary".to_owned(),
            image: "example/granary:1".to_owned(),
            image_pull_policy: "Never".to_owned(),
            store_url: "https://store:8443".to_owned(),
            store_ca: "CA".to_owned(),
            file_roots: vec!["/data".to_owned()],
            ..JobSettings::default()
        },
    }
}

fn value(sources: Value) -> Value {
    json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"name": "d", "namespace": "a", "uid": "d-uid", "resourceVersion": "5", "finalizers": ["a.user/s"]},
        "spec": {"sources": sources, "credentials": {"secretRef": {"name": "keys"}}},
    })
}

fn s3() -> Value {
    value(json!([{"uri": "s3://b/"}]))
}

fn seen(dataset: Value) -> Observed {
    Observed {
        now: Timestamp::now(),
        dataset: Arc::new(serde_json::from_value::<Dataset>(dataset).unwrap()),
        class: None,
        versions: Vec::new(),
        stored: Default::default(),
        jobs: Vec::new(),
        claim: None,
        fixed: Default::default(),
        usage: Default::default(),
        namespace_ends: false,
    }
}

fn order() -> Order {
    Order { sources: "hash".to_owned(), manual: None, pin: None, attempt: 1, after: None }
}

#[tokio::test]
async fn a_first_plan_writes_in_the_order_in_which_things_rely_on_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let api = FakeApi::default().with(DATASET, s3()).with(&format!("{DATASET}/status"), s3());
    let context = context(&api, dir.path()).await;
    let look = Look { sources: "hash".to_owned(), pin: None, version: "d-1".to_owned(), time: Timestamp::UNIX_EPOCH };
    let plan = Plan {
        finalizer: true,
        look: Some(look),
        create_job: Some(order()),
        create_claim: true,
        status: Some(DatasetStatus { observed_generation: Some(1), ..DatasetStatus::default() }),
        ..Plan::default()
    };
    apply::apply(&context, &seen(s3()), &plan).await.unwrap();
    assert_eq!(
        api.writes(),
        [
            format!("PATCH {DATASET}"),
            format!("POST {JOBS}"),
            "POST /api/v1/namespaces/a/persistentvolumeclaims".to_owned(),
            format!("PATCH {DATASET}/status"),
        ]
    );
    let written = api.written();
    let metadata = &written[0].body["metadata"];
    assert_eq!(metadata["finalizers"], json!(["a.user/s", "granary.dev/in-use"]));
    assert_eq!((&metadata["resourceVersion"], &metadata["uid"]), (&json!("5"), &json!("d-uid")));
    assert_eq!(written[0].body.as_object().unwrap().len(), 1, "a spec that a user wrote is never touched");
    let name = written[1].body["metadata"]["name"].as_str().unwrap();
    assert!(context.registry.has(&format!("uid-of-{name}")));
    let claim = &written[2].body;
    assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], "d-uid");
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadOnlyMany"]));
}

#[tokio::test]
async fn the_finalizer_alone_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut dataset = s3();
    dataset["metadata"]["finalizers"] = json!(["a.user/s", "granary.dev/in-use"]);
    dataset["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let api = FakeApi::default().with(DATASET, dataset.clone());
    let context = context(&api, dir.path()).await;
    apply::apply(&context, &seen(dataset), &Plan::default()).await.unwrap();
    assert_eq!(api.writes(), [format!("PATCH {DATASET}")]);
    assert_eq!(api.written()[0].body["metadata"]["finalizers"], json!(["a.user/s"]));
}

#[tokio::test]
async fn a_plan_made_twice_makes_one_job_and_anothers_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let api = FakeApi::default();
    let context = context(&api, dir.path()).await;
    let mut dataset = s3();
    dataset["metadata"]["finalizers"] = json!(["granary.dev/in-use"]);
    let seen = seen(dataset);
    let plan = Plan { finalizer: true, create_job: Some(order()), ..Plan::default() };
    apply::apply(&context, &seen, &plan).await.unwrap();
    apply::apply(&context, &seen, &plan).await.unwrap();
    assert_eq!(api.writes(), [format!("POST {JOBS}"), format!("POST {JOBS}")]);
    // The same name, but nobody remembers to have made it.
    let name = api.written()[0].body["metadata"]["name"].as_str().unwrap().to_owned();
    context.registry.remove(&format!("uid-of-{name}")).unwrap();
    let waits = apply::apply(&context, &seen, &plan).await;
    assert!(matches!(waits, Err(ReconcileError::Waits(_))));
    assert_eq!(api.writes().last(), Some(&format!("DELETE {JOBS}/{name}")));
}

#[test]
fn a_job_may_do_nothing_but_read_its_secret_and_speak_to_the_store() {
    let settings = JobSettings {
        namespace: "granary".to_owned(),
        store_url: "https://store:8443".to_owned(),
        store_ca: "CA".to_owned(),
        file_roots: vec!["/data".to_owned()],
        ..JobSettings::default()
    };
    let job = |dataset: Value| {
        let dataset = serde_json::from_value(dataset).unwrap();
        serde_json::to_value(super::job::job(&dataset, &order(), &settings).unwrap()).unwrap()
    };
    let remote = job(s3());
    assert_eq!(remote["metadata"]["namespace"], "a");
    assert_eq!(remote["metadata"]["ownerReferences"][0]["uid"], "d-uid");
    assert_eq!(remote["spec"]["backoffLimit"], 0);
    let pod = &remote["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["containers"][0]["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
    let volumes = pod["volumes"].as_array().unwrap();
    let names: Vec<_> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["token", "work", "tmp", "secret"]);
    assert_eq!(volumes[3]["secret"]["secretName"], "keys");
    assert_eq!(volumes[3]["secret"]["optional"], true);

    let local = job(value(json!([{"uri": "file:///data/x"}])));
    assert_eq!(local["metadata"]["namespace"], "granary");
    assert_eq!(local["metadata"]["ownerReferences"], json!([]));
    let pod = &local["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|volume| volume["name"] != "secret"), "it would be the release's Secret");
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let root = mounts.iter().find(|mount| mount["mountPath"] == "/data").unwrap();
    assert_eq!(root["readOnly"], true);
}
