//! When the sources are looked at, and what is said about it.

use super::*;

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
fn a_clock_that_was_set_back_holds_nothing_up() {
    const DAY: i64 = 86_400;
    let created = |state: JobState| {
        let mut seen = seen(json!({}), 0);
        job(&mut seen, 1, state);
        planned(&seen).create_job.map(|order| order.attempt)
    };
    assert_eq!(created(failed(DAY)), Some(2));
    assert_eq!(created(done("d-1", DAY)), Some(1), "it does not come any more");
    // Clocks differ a little, and that is waited for.
    assert_eq!(created(failed(150)), None);
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
