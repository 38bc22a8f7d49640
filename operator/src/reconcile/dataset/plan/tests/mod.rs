//! Plans by table.

mod indexing;
mod lifecycle;
mod versions;

use std::sync::Arc;

use granary_crds::conditions::{reasons, types};
use granary_crds::dataset::Pin;
use granary_crds::{DatasetVersion, Time};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::observe::{JobState, JobView, Observed};
use super::super::order::{Look, Order, Outcome, sources_hash};
use super::{Plan, Settings, plan};
use crate::conditions::find;
use crate::names::LOOK_ANNOTATION;
use crate::reconcile::node::usage::{ChangedRead, Usage};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn version(revision: i64) -> Arc<DatasetVersion> {
    let version = json!({
        "metadata": {"name": format!("d-{revision}"), "uid": format!("uid-{revision}")},
        "spec": {"datasetName": "d", "revision": revision, "listingDigest": format!("sha256:{revision}"), "fileCount": 3,
            "sizeBytes": 2048, "blob": {"id": "b", "sizeBytes": 4096}, "artifacts": [],
            "sources": [{"uri": "s3://b/", "fileCount": 3, "sizeBytes": 2048, "pinnedBy": "ETag"}],
            "indexedTime": "2026-01-01T00:00:00Z", "indexerVersion": "0"},
    });
    Arc::new(serde_json::from_value(version).unwrap())
}

/// A Dataset with so many versions, whose last look at second 0 found the newest of them; now is second 100.
fn seen(spec: Value, revisions: i64) -> Observed {
    let mut full = json!({"sources": [{"uri": "s3://b/"}]});
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let dataset = json!({"metadata": {"name": "d", "namespace": "a", "uid": "u", "generation": 7}, "spec": full});
    let class = json!({"metadata": {"name": "granary"}, "spec": {}});
    let versions: Vec<_> = (1..=revisions).map(version).collect();
    let mut seen = Observed {
        now: at(100),
        dataset: Arc::new(serde_json::from_value(dataset).unwrap()),
        class: Some(Arc::new(serde_json::from_value(class).unwrap())),
        stored: versions.iter().map(|version| version.metadata.name.clone().unwrap()).collect(),
        versions,
        jobs: Vec::new(),
        claim: None,
        fixed: Default::default(),
        usage: Usage::default(),
        namespace_ends: false,
    };
    if let Some(latest) = seen.versions.last().map(|version| version.metadata.name.clone().unwrap()) {
        looked(&mut seen, &latest, None);
    }
    seen
}

fn looked(seen: &mut Observed, version: &str, pin: Option<&str>) {
    let look = Look {
        sources: sources_hash(&seen.dataset.spec),
        pin: pin.map(str::to_owned),
        version: version.to_owned(),
        time: at(0),
    };
    let dataset = Arc::make_mut(&mut seen.dataset);
    let text = serde_json::to_string(&look).unwrap();
    dataset.metadata.annotations.get_or_insert_default().insert(LOOK_ANNOTATION.to_owned(), text);
    let status = dataset.status.get_or_insert_default();
    status.refresh.get_or_insert_default().last_success_time = Some(Time(at(0)));
}

fn job(seen: &mut Observed, attempt: u32, state: JobState) {
    let spec = &seen.dataset.spec;
    let order = Order {
        sources: sources_hash(spec),
        manual: spec.refresh.as_ref().and_then(|refresh| refresh.manual.clone()),
        pin: None,
        attempt,
        after: None,
    };
    let uid = format!("job-{}", seen.jobs.len());
    seen.jobs.push(JobView {
        name: uid.clone(),
        namespace: "a".to_owned(),
        uid,
        ours: true,
        order: Some(order),
        state,
    });
}

fn failed(second: i64) -> JobState {
    let (reason, message) = (reasons::BUCKET_NOT_FOUND.to_owned(), "make it".to_owned());
    JobState::Reported(Outcome::Failed { reason, message, time: at(second) })
}

fn done(version: &str, second: i64) -> JobState {
    JobState::Reported(Outcome::Version { name: version.to_owned(), time: at(second) })
}

fn planned(seen: &Observed) -> Plan {
    plan(seen, &Settings { file_roots: vec!["/data".to_owned()] })
}

/// The plan that follows when the status and the look of `plan` were written.
fn after(mut seen: Observed, plan: &Plan) -> Observed {
    let dataset = Arc::make_mut(&mut seen.dataset);
    dataset.status = plan.status.clone();
    if let Some(look) = &plan.look {
        let text = serde_json::to_string(look).unwrap();
        dataset.metadata.annotations.get_or_insert_default().insert(LOOK_ANNOTATION.to_owned(), text);
    }
    seen
}

fn condition<'a>(plan: &'a Plan, type_: &str) -> Option<(&'a str, &'a str)> {
    let condition = find(&plan.status.as_ref()?.conditions, type_)?;
    Some((condition.status.as_str(), condition.reason.as_str()))
}

fn current(plan: &Plan) -> Option<&str> {
    plan.status.as_ref()?.current_version.as_ref().map(|version| version.name.as_str())
}
