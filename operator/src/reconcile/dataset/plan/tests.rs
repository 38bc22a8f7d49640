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

#[test]
fn when_the_sources_are_looked_at() {
    let unchanged = |_: &mut Observed| {};
    type Change = Box<dyn Fn(&mut Observed)>;
    let cases: Vec<(&str, Value, i64, Change, bool)> = vec![
        ("first", json!({}), 0, Box::new(unchanged), true),
        ("nothing new", json!({}), 2, Box::new(unchanged), false),
        (
            "other sources",
            json!({}),
            2,
            Box::new(|seen| Arc::make_mut(&mut seen.dataset).spec.sources[0].uri = "s3://c/".to_owned()),
            true,
        ),
        (
            "another secret",
            json!({}),
            2,
            Box::new(|seen| Arc::make_mut(&mut seen.dataset).spec.credentials = Some(Default::default())),
            true,
        ),
        ("manual", json!({"refresh": {"manual": "x"}}), 2, Box::new(unchanged), true),
        (
            "manual, answered",
            json!({"refresh": {"manual": "x"}}),
            2,
            Box::new(|seen| {
                let status = Arc::make_mut(&mut seen.dataset).status.as_mut().unwrap();
                status.refresh.as_mut().unwrap().last_manual = Some("x".to_owned());
            }),
            false,
        ),
        ("period over", json!({"refresh": {"periodSeconds": 60}}), 2, Box::new(unchanged), true),
        ("period not over", json!({"refresh": {"periodSeconds": 3600}}), 2, Box::new(unchanged), false),
        ("unknown digest", json!({"pin": {"digest": "sha256:9"}}), 2, Box::new(unchanged), true),
        ("known digest", json!({"pin": {"digest": "sha256:1"}}), 2, Box::new(unchanged), false),
        (
            "unknown digest, looked for",
            json!({"pin": {"digest": "sha256:9"}}),
            2,
            Box::new(|seen| looked(seen, "d-2", Some("sha256:9"))),
            false,
        ),
        ("unknown name", json!({"pin": {"version": "d-9"}}), 2, Box::new(unchanged), false),
        ("lost image of the latest", json!({}), 2, Box::new(|seen| seen.stored.retain(|name| name != "d-2")), true),
        ("lost image of another", json!({}), 2, Box::new(|seen| seen.stored.retain(|name| name != "d-1")), false),
        ("class missing", json!({}), 0, Box::new(|seen| seen.class = None), false),
        ("deleted latest version", json!({}), 2, Box::new(|seen| drop(seen.versions.pop())), true),
    ];
    for (name, spec, revisions, change, expected) in cases {
        let mut seen = seen(spec, revisions);
        change(&mut seen);
        assert_eq!(planned(&seen).create_job.is_some(), expected, "{name}");
    }
}

#[test]
fn a_job_under_way_is_left_alone_unless_something_else_is_wanted() {
    let mut running = seen(json!({}), 0);
    job(&mut running, 1, JobState::Running(None));
    let plan = planned(&running);
    assert!(plan.create_job.is_none() && plan.delete_jobs.is_empty() && plan.again.is_some());
    assert_eq!(condition(&plan, types::RECONCILING), Some(("True", reasons::INDEXING)));

    Arc::make_mut(&mut running.dataset).spec.sources[0].uri = "s3://c/".to_owned();
    let plan = planned(&running);
    assert!(plan.create_job.is_some());
    assert_eq!(plan.delete_jobs[0].uid, "job-0");

    // Somebody else's Job, whatever it says.
    running.jobs[0].ours = false;
    running.jobs[0].state = done("d-1", 50);
    let plan = planned(&running);
    assert!(plan.create_job.is_some() && plan.look.is_none() && plan.delete_jobs.is_empty());
}

#[test]
fn a_result_becomes_current_and_is_remembered() {
    let mut first = seen(json!({"refresh": {"manual": "x"}}), 1);
    Arc::make_mut(&mut first.dataset).metadata.annotations = None;
    Arc::make_mut(&mut first.dataset).status = None;
    job(&mut first, 1, done("d-1", 50));
    let plan = planned(&first);
    assert_eq!(current(&plan), Some("d-1"));
    assert!(plan.create_claim && plan.create_job.is_none());
    assert_eq!(condition(&plan, types::READY), Some(("True", reasons::VERSION_CURRENT)));
    assert_eq!(condition(&plan, types::SOURCE_AVAILABLE), Some(("True", reasons::LISTED)));
    assert_eq!(condition(&plan, types::RECONCILING), None);
    let refresh = plan.status.as_ref().unwrap().refresh.clone().unwrap();
    assert_eq!((refresh.last_manual.as_deref(), refresh.last_success_time), (Some("x"), Some(Time(at(50)))));
    assert_eq!(plan.notes.len(), 1);

    // What was written changes nothing, also when the Job is gone, and says nothing twice.
    let mut later = after(first, &plan);
    later.now = at(200);
    let again = planned(&later);
    assert_eq!(again.status, plan.status);
    assert!(again.look.is_none() && again.notes.is_empty());
    later.jobs.clear();
    assert_eq!(planned(&later).status, plan.status);
}

#[test]
fn a_result_that_our_cache_does_not_have_yet_is_awaited() {
    let mut early = seen(json!({}), 0);
    job(&mut early, 1, done("d-1", 90));
    assert!(planned(&early).create_job.is_none());
    early.now = at(90) + SignedDuration::from_secs(61);
    assert!(planned(&early).create_job.is_some(), "somebody has deleted it");
}

#[test]
fn failures_wait_longer_each_time_and_stall_at_the_third() {
    for (attempt, wait, stalled) in
        [(1, 5, false), (2, 10, false), (3, 20, true), (6, 160, true), (7, 300, true), (40, 300, true)]
    {
        let mut failing = seen(json!({}), 0);
        job(&mut failing, attempt, failed(100));
        let plan = planned(&failing);
        assert_eq!(plan.again, Some(at(100 + wait)), "{attempt}");
        assert!(plan.create_job.is_none());
        assert_eq!(condition(&plan, types::READY), Some(("False", reasons::BUCKET_NOT_FOUND)));
        assert_eq!(condition(&plan, types::SOURCE_AVAILABLE), Some(("False", reasons::BUCKET_NOT_FOUND)));
        assert_eq!(condition(&plan, types::STALLED).is_some(), stalled, "{attempt}");
        assert_eq!(condition(&plan, types::RECONCILING).is_some(), !stalled, "{attempt}");

        failing.now = at(100 + wait);
        let order = planned(&failing).create_job.unwrap();
        assert_eq!(order.attempt, attempt + 1);
        // While the next attempt runs, what is wrong stays said.
        failing.jobs[0].order = Some(order);
        failing.jobs[0].state = JobState::Running(None);
        let running = planned(&failing);
        assert_eq!(condition(&running, types::READY), Some(("False", reasons::BUCKET_NOT_FOUND)));
        assert_eq!(condition(&running, types::STALLED).is_some(), stalled);
    }
}

#[test]
fn a_failed_refresh_leaves_the_dataset_ready_and_heals() {
    let mut failing = seen(json!({"refresh": {"periodSeconds": 60}}), 1);
    job(&mut failing, 3, failed(99));
    let plan = planned(&failing);
    assert_eq!(condition(&plan, types::READY), Some(("True", reasons::VERSION_CURRENT)));
    assert_eq!(condition(&plan, types::SOURCE_AVAILABLE), Some(("False", reasons::BUCKET_NOT_FOUND)));
    assert_eq!(condition(&plan, types::STALLED), Some(("True", reasons::BUCKET_NOT_FOUND)));
    let mut healed = after(failing, &plan);
    healed.jobs.clear();
    job(&mut healed, 4, done("d-1", 100));
    let plan = planned(&healed);
    assert_eq!(condition(&plan, types::SOURCE_AVAILABLE), Some(("True", reasons::LISTED)));
    assert_eq!(condition(&plan, types::STALLED), None);
    assert_eq!(plan.again, Some(at(160)));
}

#[test]
fn a_periodic_look_does_not_flap() {
    let mut due = seen(json!({"refresh": {"periodSeconds": 60}}), 1);
    assert_eq!(condition(&planned(&due), types::RECONCILING), None);
    job(&mut due, 1, JobState::Running(None));
    assert_eq!(condition(&planned(&due), types::RECONCILING), None);
}

#[test]
fn a_job_without_a_report_says_where_to_look() {
    let mut lost = seen(json!({}), 0);
    job(&mut lost, 1, JobState::Lost { time: at(99), message: "OOMKilled".to_owned() });
    let plan = planned(&lost);
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::INDEXING)));
    let ready = find(&plan.status.as_ref().unwrap().conditions, types::READY).unwrap();
    assert!(ready.message.contains("OOMKilled") && ready.message.contains("job-0"), "{}", ready.message);
    lost.jobs.clear();
    job(&mut lost, 1, JobState::Running(Some("ImagePullBackOff".to_owned())));
    let plan = planned(&lost);
    assert!(
        find(&plan.status.as_ref().unwrap().conditions, types::READY).unwrap().message.contains("ImagePullBackOff")
    );
}

#[test]
fn a_pin_is_served_by_no_other_version() {
    for (pin, looked_for, expected, ready) in [
        (json!({"version": "d-1"}), None, Some("d-1"), reasons::VERSION_CURRENT),
        (json!({"version": "d-9"}), None, None, reasons::VERSION_NOT_FOUND),
        (json!({"digest": "sha256:1"}), None, Some("d-1"), reasons::VERSION_CURRENT),
        (json!({"digest": "sha256:9"}), None, None, reasons::INDEXING),
        (json!({"digest": "sha256:9"}), Some("sha256:9"), None, reasons::DIGEST_MISMATCH),
    ] {
        let mut pinned = seen(json!({"pin": pin}), 2);
        if looked_for.is_some() {
            looked(&mut pinned, "d-2", looked_for);
        }
        let plan = planned(&pinned);
        assert_eq!(current(&plan), expected, "{pin}");
        assert_eq!(condition(&plan, types::READY).unwrap().1, ready, "{pin}");
        assert_eq!(plan.status.unwrap().latest_version.unwrap().name, "d-2");
    }
}

#[test]
fn a_lost_image_is_made_again_only_if_it_is_the_latest() {
    let mut lost = seen(json!({}), 2);
    lost.stored.clear();
    let plan = planned(&lost);
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::INDEXING)));
    assert!(plan.create_job.is_some());
    let mut pinned = seen(json!({"pin": {"version": "d-1"}}), 2);
    pinned.stored.retain(|name| name != "d-1");
    let plan = planned(&pinned);
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::IMAGE_MISSING)));
    assert!(plan.create_job.is_none());
}

#[test]
fn an_earlier_listing_is_current_again() {
    let mut back = seen(json!({}), 3);
    looked(&mut back, "d-1", None);
    assert_eq!(current(&planned(&back)), Some("d-1"));
}

#[test]
fn classes_and_policies() {
    let mut lost = seen(json!({}), 1);
    lost.class = None;
    assert_eq!(condition(&planned(&lost), types::READY), Some(("False", reasons::CLASS_NOT_FOUND)));
    for (source, policy, denied) in [
        (json!({"uri": "file:///data/x"}), json!({}), true),
        (json!({"uri": "file:///data/x"}), json!({"fileSources": "Allow"}), false),
        (json!({"uri": "file:///etc"}), json!({"fileSources": "Allow"}), true),
        (json!({"uri": "s3://b/", "identity": "Ambient"}), json!({}), true),
        (json!({"uri": "s3://b/", "identity": "Ambient"}), json!({"ambientIdentity": "Allow"}), false),
        (json!({"uri": "s3://b/", "identity": "Anonymous"}), json!({}), false),
        (json!({"uri": "s3://b/", "identity": "Later"}), json!({"ambientIdentity": "Allow"}), true),
    ] {
        let mut asked = seen(json!({"sources": [source]}), 0);
        let class = json!({"metadata": {"name": "granary"}, "spec": {"sourcePolicy": policy}});
        asked.class = Some(Arc::new(serde_json::from_value(class).unwrap()));
        let plan = planned(&asked);
        assert_eq!(plan.create_job.is_none(), denied, "{source} {policy}");
        let expected = if denied { reasons::SOURCE_DENIED } else { reasons::INDEXING };
        assert_eq!(condition(&plan, types::READY), Some(("False", expected)));
        assert_eq!(condition(&plan, types::STALLED).is_some(), denied);
    }
}

#[test]
fn a_dataset_of_files_never_names_a_secret() {
    let credentials = json!({"secretRef": {"name": "keys"}});
    let mixed = json!({"sources": [{"uri": "file:///data/x", "path": "x"}, {"uri": "s3://b/", "path": "y"}], "credentials": credentials});
    let mut asked = seen(mixed, 0);
    let class = json!({"metadata": {"name": "granary"}, "spec": {"sourcePolicy": {"fileSources": "Allow"}}});
    asked.class = Some(Arc::new(serde_json::from_value(class).unwrap()));
    let plan = planned(&asked);
    assert!(plan.create_job.is_none());
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::SOURCE_DENIED)));
}

#[test]
fn history_is_pruned_but_not_what_is_needed() {
    let all = |limit: i32| seen(json!({"revisionHistoryLimit": limit}), 6);
    assert!(planned(&all(5)).delete_versions.is_empty());
    assert_eq!(planned(&all(3)).delete_versions, ["d-1", "d-2"]);

    let mut needed = all(0);
    needed.usage.pods.insert("d-1".to_owned(), 1);
    needed.fixed.insert("d-2".to_owned());
    needed.fixed.insert("sha256:3".to_owned());
    Arc::make_mut(&mut needed.dataset).spec.pin = Some(Pin { version: Some("d-4".to_owned()), digest: None });
    assert_eq!(planned(&needed).delete_versions, ["d-5"]);

    // The head of the blob stays, though an earlier version is current again; oldest use goes first.
    let mut back = all(1);
    looked(&mut back, "d-2", None);
    let used = back.versions.iter_mut().find(|version| version.spec.revision == 1).unwrap();
    Arc::make_mut(used).status.get_or_insert_default().last_current_time = Some(Time(at(50)));
    assert_eq!(planned(&back).delete_versions, ["d-3", "d-4", "d-5"]);
}

#[test]
fn the_claim_is_made_with_the_first_version_and_never_taken() {
    let claim = |owner: Option<&str>, phase: &str| {
        let owners = owner
            .map(|uid| json!([{"apiVersion": "", "kind": "Dataset", "name": "d", "uid": uid, "controller": true}]));
        let claim =
            json!({"metadata": {"name": "d", "uid": "c", "ownerReferences": owners}, "status": {"phase": phase}});
        Some(Arc::new(serde_json::from_value(claim).unwrap()))
    };
    for (revisions, claim, create, bound) in [
        (0, None, false, None),
        (1, None, true, None),
        (1, claim(Some("u"), "Bound"), false, Some(("True", reasons::BOUND))),
        (1, claim(Some("u"), "Pending"), false, Some(("Unknown", "ClaimPending"))),
        (1, claim(None, "Bound"), false, Some(("False", reasons::CLAIM_CONFLICT))),
        (1, claim(Some("another"), "Bound"), false, Some(("False", reasons::CLAIM_CONFLICT))),
    ] {
        let mut seen = seen(json!({}), revisions);
        seen.claim = claim;
        let plan = planned(&seen);
        assert_eq!(plan.create_claim, create);
        assert_eq!(condition(&plan, types::CLAIM_BOUND), bound);
        let ours = matches!(bound, Some(("True" | "Unknown", _)));
        assert_eq!(plan.status.unwrap().claim.map(|claim| claim.uid), ours.then(|| "c".to_owned()));
    }
}

#[test]
fn deletion_waits_for_pods_but_not_in_a_namespace_that_ends() {
    let mut deleted = seen(json!({}), 1);
    let dataset = Arc::make_mut(&mut deleted.dataset);
    dataset.metadata.deletion_timestamp = Some(Time(at(90)));
    dataset.metadata.finalizers = Some(vec![granary_crds::names::IN_USE_FINALIZER.to_owned()]);
    job(&mut deleted, 1, JobState::Running(None));
    deleted.usage.pods.insert("d-1".to_owned(), 2);
    deleted.usage.nodes.insert("n1".to_owned());
    let plan = planned(&deleted);
    assert!(plan.finalizer && plan.create_job.is_none() && plan.delete_jobs.len() == 1);
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::DELETION_WAITS_FOR_PODS)));
    let message = &find(&plan.status.as_ref().unwrap().conditions, types::READY).unwrap().message;
    assert!(message.contains("2 pods") && message.contains("n1"), "{message}");

    deleted.namespace_ends = true;
    assert!(!planned(&deleted).finalizer);
    deleted.namespace_ends = false;
    deleted.usage = Usage::default();
    assert!(!planned(&deleted).finalizer);
}

#[test]
fn a_changed_object_is_said_until_the_next_look() {
    let mut read = seen(json!({}), 2);
    let changed = |second, version: &str| ChangedRead {
        node: "n1".to_owned(),
        time: at(second),
        versions: [version.to_owned()].into(),
    };
    for (second, version, expected) in [
        (50, "d-2", ("False", reasons::OBJECT_CHANGED)),
        (50, "d-1", ("True", reasons::AS_PINNED)),
        (-1, "d-2", ("True", reasons::AS_PINNED)),
    ] {
        read.usage.changed = vec![changed(second, version)];
        assert_eq!(condition(&planned(&read), types::SOURCE_UNCHANGED), Some(expected), "{second} {version}");
    }
}

#[test]
fn warnings_about_content() {
    for (change, complete, strong) in [
        (json!({}), reasons::ALL_LISTED, reasons::ALL_PINNED),
        (json!({"fileCount": 0}), reasons::EMPTY, reasons::ALL_PINNED),
        (json!({"skipped": [{"reason": "NameTooLong", "count": 2}]}), reasons::KEYS_SKIPPED, reasons::ALL_PINNED),
        (
            json!({"sources": [{"uri": "file:///x", "fileCount": 1, "sizeBytes": 1, "pinnedBy": "ModificationTime"}]}),
            reasons::ALL_LISTED,
            reasons::WEAK_SOURCE,
        ),
    ] {
        let mut seen = seen(json!({}), 1);
        let mut spec = serde_json::to_value(&seen.versions[0].spec).unwrap();
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Arc::make_mut(&mut seen.versions[0]).spec = serde_json::from_value(spec).unwrap();
        let plan = planned(&seen);
        assert_eq!(condition(&plan, types::CONTENT_COMPLETE).unwrap().1, complete);
        assert_eq!(condition(&plan, types::STRONGLY_PINNED).unwrap().1, strong);
        assert_eq!(condition(&plan, types::READY).unwrap().0, "True");
    }
}
