//! Two operators at once: one acts, and the one that has lost the Lease writes nothing more, whether it knows that or not.

use std::time::Duration;

use http::Method;
use kube::client::ClientBuilder;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use super::life::{DATASET, LIFE};
use super::process::Operator;
use crate::lease::{Holder, LeaseError, Verdict};
use crate::reconcile::ReconcileError;
use crate::testing::server::{Death, Process, Server};

/// An instance with a Lease of its own to take.
struct Instance {
    holder: Holder,
    operator: Operator,
    fenced: Process,
    _volume: TempDir,
}

impl Instance {
    async fn start(server: &Server, name: &str) -> Self {
        let fenced = server.process(Death::Never);
        let holder = Holder::new(server.process(Death::Never).client, "granary", name);
        let inner = fenced.client.clone();
        let service = tower::service_fn(move |request| {
            let inner = inner.clone();
            async move { inner.send(request).await }
        });
        let client = ClientBuilder::new(service, "default").with_layer(&holder.fence()).build();
        let volume = tempfile::tempdir().unwrap();
        let operator = Operator::start(server, client, volume.path()).await;
        Self { holder, operator, fenced, _volume: volume }
    }

    /// What it has written but for its Lease.
    fn writes(&self) -> usize {
        self.fenced.calls().iter().filter(|call| !call.starts_with("GET ")).count()
    }
}

fn is_fenced(failures: &[ReconcileError]) -> bool {
    !failures.is_empty() && failures.iter().all(|failure| failure.to_string().contains("does not lead"))
}

/// A clock that stands still, so many seconds after `begun`.
fn at(begun: Instant, second: u64) -> impl Fn() -> Instant {
    move || begun + Duration::from_secs(second)
}

/// A server on which an operator has something to do.
fn server() -> Server {
    let server = Server::default();
    LIFE[..2].iter().for_each(|act| (act.others)(&server));
    server
}

#[tokio::test]
async fn of_two_that_start_together_one_acts() {
    let server = server();
    let (mut a, mut b) = (Instance::start(&server, "a").await, Instance::start(&server, "b").await);
    let (of_a, of_b) = tokio::join!(a.holder.attempt(Instant::now), b.holder.attempt(Instant::now));
    let leads = |verdict: &Result<Verdict, _>| matches!(verdict, Ok(Verdict::Mine));
    assert_ne!(leads(&of_a), leads(&of_b), "{of_a:?} {of_b:?}");
    let (leader, other) = if leads(&of_a) { (&mut a, &mut b) } else { (&mut b, &mut a) };
    assert!(is_fenced(&other.operator.round().await));
    assert_eq!(other.writes(), 0);
    leader.operator.settle().await;
    assert!(leader.writes() > 0);
    other.operator.round().await;
    assert_eq!(other.writes(), 0);
}

#[tokio::test]
async fn one_that_was_stopped_beyond_its_time_writes_nothing_when_it_wakes() {
    let server = server();
    let mut sleeper = Instance::start(&server, "sleeper").await;
    // The renewal of 11 s ago: nothing has told this instance that it is too old.
    let long_ago = Instant::now() - Duration::from_secs(11);
    assert_eq!(sleeper.holder.attempt(|| long_ago).await.unwrap(), Verdict::Mine);
    assert!(is_fenced(&sleeper.operator.round().await));
    assert_eq!(sleeper.writes(), 0);
    // Nobody has taken the Lease: it may go on.
    sleeper.holder.renew(Instant::now).await.unwrap();
    sleeper.operator.settle().await;
    assert!(sleeper.writes() > 0);
}

#[tokio::test]
async fn the_loser_of_the_lease_stops_and_the_winner_finishes() {
    let server = server();
    let (mut first, mut second) = (Instance::start(&server, "first").await, Instance::start(&server, "second").await);
    assert_eq!(first.holder.attempt(Instant::now).await.unwrap(), Verdict::Mine);
    first.operator.round().await;
    let written = first.writes();
    assert!(written > 0);
    // The first is not heard of: not renewed for as long as the second looks.
    let begun = Instant::now();
    for (second_of_clock, taken) in [(0, true), (14, true), (16, false)] {
        let verdict = second.holder.attempt(at(begun, second_of_clock)).await.unwrap();
        assert_eq!(matches!(verdict, Verdict::Taken(_)), taken, "{verdict:?} after {second_of_clock} s");
    }
    assert!(matches!(first.holder.renew(Instant::now).await, Err(LeaseError::Taken(by)) if by == "second"));
    server.told(Method::PATCH, DATASET, json!({"spec": {"preload": true}}));
    assert!(is_fenced(&first.operator.round().await));
    assert_eq!(first.writes(), written);
    second.holder.renew(Instant::now).await.unwrap();
    second.operator.settle().await;
    assert!(second.writes() > 0);
}

#[tokio::test]
async fn a_holder_that_renews_keeps_the_lease_whatever_the_clocks_say() {
    let server = server();
    let (holder, waiting) = (Instance::start(&server, "holder").await, Instance::start(&server, "waiting").await);
    assert_eq!(holder.holder.attempt(Instant::now).await.unwrap(), Verdict::Mine);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/granary/leases/granary-operator";
    let begun = Instant::now();
    for (second, clock) in [(0, "1970-01-01"), (14, "2999-01-01"), (28, "1970-01-01")] {
        holder.holder.renew(Instant::now).await.unwrap();
        // As if the holder's clock had jumped.
        let renewed = json!({"spec": {"renewTime": format!("{clock}T00:00:00.000000Z")}});
        server.told(Method::PATCH, lease, renewed);
        let verdict = waiting.holder.attempt(at(begun, second)).await.unwrap();
        assert!(matches!(verdict, Verdict::Taken(_)), "{verdict:?} after {second} s");
    }
    // A sign of life was seen last at second 28.
    assert!(matches!(waiting.holder.attempt(at(begun, 42)).await.unwrap(), Verdict::Taken(_)));
    assert_eq!(waiting.holder.attempt(at(begun, 44)).await.unwrap(), Verdict::Mine);
}
