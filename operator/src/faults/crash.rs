//! The operator is killed before and after each of its calls, at every step of the life of a dataset. The next one finds what is there,
//! and brings it to where it would have been.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::life::{LIFE, answer};
use super::process::Operator;
use crate::testing::server::{Death, Server};

const JOBS: &str = "/apis/batch/v1/jobs";

/// How a world was when an act began, after what others did in it.
struct Scene {
    server: Server,
    volume: TempDir,
}

impl Scene {
    /// The same once more.
    fn fork(&self) -> Self {
        let volume = tempfile::tempdir().unwrap();
        copy(self.volume.path(), volume.path());
        Self { server: self.server.fork(), volume }
    }

    /// Lets an operator do its part of an act until it dies: what it has asked for, and whether it lived to the end.
    async fn play(&self, found: Option<&str>, death: Death) -> (Vec<String>, bool) {
        let process = self.server.process(death);
        let lived = process
            .lives(async {
                let mut operator = Operator::start(&self.server, process.client.clone(), self.volume.path()).await;
                answer(&self.server, &mut operator, found).await;
            })
            .await;
        (process.calls(), lived)
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn an_operator_killed_at_any_call_leaves_nothing_that_the_next_one_does_not_finish() {
    let mut scene = Scene { server: Server::default(), volume: tempfile::tempdir().unwrap() };
    let mut kills = 0;
    for act in &LIFE {
        (act.others)(&scene.server);
        let whole = scene.fork();
        let (calls, lived) = whole.play(act.found, Death::Never).await;
        assert!(lived, "{}: {calls:?}", act.name);
        let (end, created) = (whole.server.dump(), whole.server.created());
        assert_rest(&whole, act.name).await;
        for nth in 1..=calls.len() {
            for death in [Death::Before(nth), Death::After(nth)] {
                let what = format!("{}: killed {death:?} of {calls:?}", act.name);
                let killed = scene.fork();
                let (done, lived) = killed.play(act.found, death).await;
                assert!(!lived && done == calls[..nth], "it does not do the same twice: {what}, but {done:?}");
                let (_, lived) = killed.play(act.found, Death::Never).await;
                assert!(lived, "{what}");
                assert_same(&killed.server.dump(), &end, &what);
                // Made, but nobody remembers to have made it: such a Job is not believed, and another one takes its place.
                let unrecorded = death == Death::After(nth) && is_new_job(&calls[nth - 1]);
                assert_eq!(sorted(killed.server.created(), unrecorded), sorted(created.clone(), false), "{what}");
                kills += 1;
            }
        }
        scene = whole;
    }
    assert!(scene.server.all::<serde_json::Value>(JOBS).is_empty());
    assert!(kills > 100, "only {kills} kills");
}

/// An operator that finds all as it should be writes nothing.
async fn assert_rest(scene: &Scene, act: &str) {
    let changes = scene.server.changes();
    let (calls, _) = scene.play(None, Death::Never).await;
    let writes: Vec<&String> =
        calls.iter().filter(|call| !call.starts_with("GET ") && !call.contains("/events")).collect();
    assert!(writes.is_empty() && scene.server.changes() == changes, "{act}: an operator that starts writes {writes:?}");
}

fn is_new_job(call: &str) -> bool {
    call.starts_with("POST ") && call.ends_with("/jobs")
}

/// What was created, without the Job that had to be made once more.
fn sorted(mut created: Vec<String>, one_job_more: bool) -> Vec<String> {
    if one_job_more {
        let nth = created.iter().position(|collection| collection == JOBS).unwrap();
        created.remove(nth);
    }
    created.sort();
    created
}

fn assert_same(found: &str, expected: &str, what: &str) {
    if found != expected {
        let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        panic!("{what}\nends differently: {differing:?}\n--- is\n{found}\n--- should be\n{expected}");
    }
}
