//! Whether the sources must be looked at, and by which Job.

use std::time::Duration;

use granary_crds::DatasetVersion;
use granary_crds::Time;
use granary_crds::dataset::RefreshStatus;
use jiff::Timestamp;

use super::super::observe::{JobState, JobView, Observed};
use super::super::order::{Failure, Look, Order, Outcome, sources_hash};
use crate::conditions::seconds;

/// First wait after a failed attempt; it doubles with each one.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Longest wait.
const LAST_RETRY: Duration = Duration::from_secs(300);
/// The attempt whose failure makes a Dataset Stalled.
pub const STALLED_AFTER: u32 = 3;
/// How much clocks in a cluster may differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);
/// How long a reported version may be missing from our cache before it counts as deleted.
const CACHE_LAG: Duration = Duration::from_secs(60);

/// Why the sources must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// They never were.
    First,
    /// `sources` or `credentials` have changed.
    Sources,
    /// The image store has lost something of the latest version.
    Artifacts,
    /// `refresh.manual` has changed.
    Manual,
    /// No version has the pinned digest.
    Pin,
    /// `refresh.periodSeconds` are over.
    Period,
}

/// What is to be done about Jobs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Idle,
    /// A Job is under way.
    Running,
    /// Make a Job.
    Create(Order),
    /// Nothing before this time.
    Wait(Timestamp),
}

/// The part of a plan that is about indexing.
#[derive(Clone, Debug)]
pub struct Indexing {
    /// Why a look is needed; none: it is not.
    pub why: Option<Why>,
    /// What to do.
    pub next: Next,
    /// Jobs that are of no use any more.
    pub obsolete: Vec<JobView>,
    /// The last complete look, with what a Job has just reported.
    pub look: Option<Look>,
    /// The failure of the last attempt that has ended, if the look is still needed.
    pub failure: Option<Failure>,
    /// Why the pod of the Job does not start.
    pub pod_problem: Option<String>,
    /// For the status.
    pub refresh: RefreshStatus,
}

/// Decides about Jobs. `denied`: the class forbids the sources, so there must be none.
pub fn plan(seen: &Observed, denied: bool) -> Indexing {
    let spec = &seen.dataset.spec;
    let manual = spec.refresh.as_ref().and_then(|refresh| refresh.manual.clone());
    let digest = spec.pin.as_ref().and_then(|pin| pin.digest.clone());
    let pin = digest.filter(|digest| !seen.versions.iter().any(|version| version.spec.listing_digest == *digest));
    let want = Order { sources: sources_hash(spec), manual, pin, attempt: 1, after: None };

    let (look, refresh) = remembered(seen);
    let ours: Vec<&JobView> = seen.jobs.iter().filter(|job| job.ours).collect();
    let last = ours.last().copied();
    let why = why(seen, &want, look.as_ref(), &refresh);
    let failure = last.and_then(|job| failed(job, &want, look.as_ref())).filter(|_| why.is_some());
    let next = if denied { Next::Idle } else { next(seen, &want, why, last, failure.as_ref()) };
    let running = next == Next::Running;
    let pod_problem = last.filter(|_| running).and_then(|job| match &job.state {
        JobState::Running(problem) => problem.clone(),
        _ => None,
    });
    let kept = match &next {
        Next::Create(_) => None,
        _ => last.filter(|job| running || !matches!(job.state, JobState::Running(_))),
    };
    let obsolete = ours.iter().filter(|job| kept.is_none_or(|kept| kept.uid != job.uid));
    Indexing {
        why,
        obsolete: obsolete.map(|job| (*job).clone()).collect(),
        look,
        failure: failure.map(|(failure, _)| failure),
        pod_problem,
        refresh: RefreshStatus { next_time: next_time(seen, &refresh), ..refresh },
        next,
    }
}

/// The last look and what the status says of it, with what a Job has reported since.
fn remembered(seen: &Observed) -> (Option<Look>, RefreshStatus) {
    let mut look = Look::of(&seen.dataset);
    let mut refresh = seen.dataset.status.as_ref().and_then(|status| status.refresh.clone()).unwrap_or_default();
    for job in seen.jobs.iter().filter(|job| job.ours) {
        let (Some(order), JobState::Reported(Outcome::Version { name, time })) = (&job.order, &job.state) else {
            continue;
        };
        if look.as_ref().is_none_or(|look| look.time < *time) && has(seen, name) {
            look = Some(Look {
                sources: order.sources.clone(),
                pin: order.pin.clone(),
                version: name.clone(),
                time: *time,
            });
        }
        if look.as_ref().is_some_and(|look| look.time == *time) {
            refresh.last_success_time = Some(Time(seconds(*time)));
            refresh.last_manual = order.manual.clone().or(refresh.last_manual);
        }
    }
    (look, refresh)
}

fn has(seen: &Observed, name: &str) -> bool {
    seen.versions.iter().any(|version| version_name(version) == name)
}

/// The name of a version that the API server knows.
pub fn version_name(version: &DatasetVersion) -> &str {
    version.metadata.name.as_deref().unwrap_or_default()
}

fn why(seen: &Observed, want: &Order, look: Option<&Look>, refresh: &RefreshStatus) -> Option<Why> {
    let Some(look) = look.filter(|look| has(seen, &look.version)) else {
        return Some(Why::First);
    };
    if look.sources != want.sources {
        Some(Why::Sources)
    } else if !seen.stored.contains(&look.version) {
        Some(Why::Artifacts)
    } else if want.manual.is_some() && want.manual != refresh.last_manual {
        Some(Why::Manual)
    } else if want.pin.is_some() && want.pin != look.pin {
        Some(Why::Pin)
    } else if next_time(seen, refresh).is_some_and(|time| time.0 <= seen.now) {
        Some(Why::Period)
    } else {
        None
    }
}

fn next_time(seen: &Observed, refresh: &RefreshStatus) -> Option<Time> {
    let period = seen.dataset.spec.refresh.as_ref()?.period_seconds?;
    let last = refresh.last_success_time.as_ref()?.0;
    last.checked_add(jiff::SignedDuration::from_secs(period)).ok().map(Time)
}

/// The last failure that `job` knows of, and when that ended; none if the look that we want is not the one that it was
/// made for.
fn failed(job: &JobView, want: &Order, look: Option<&Look>) -> Option<(Failure, Timestamp)> {
    let order = job.order.as_ref().filter(|order| order.asks_the_same(want))?;
    let (reason, message, time) = match &job.state {
        JobState::Running(_) => return Some((order.after.clone()?, Timestamp::MIN)),
        JobState::Reported(Outcome::Version { .. }) => return None,
        JobState::Reported(Outcome::Failed { reason, message, time }) => (Some(reason.clone()), message.clone(), *time),
        JobState::Lost { time, message } => {
            let message = format!("index Job {} ended without a result: {message}; see its pod's log", job.name);
            (None, message, *time)
        }
    };
    let newer = look.is_none_or(|look| look.time < time);
    newer.then_some((Failure { reason, message, attempt: order.attempt }, time))
}

fn next(
    seen: &Observed,
    want: &Order,
    why: Option<Why>,
    last: Option<&JobView>,
    failure: Option<&(Failure, Timestamp)>,
) -> Next {
    if let Some(job) = last {
        let same = job.order.as_ref().is_some_and(|order| order.asks_the_same(want));
        match &job.state {
            JobState::Running(_) if same => return Next::Running,
            JobState::Reported(Outcome::Version { name, time }) if !has(seen, name) => {
                let until = end_of_wait(*time, CACHE_LAG, seen.now);
                if seen.now < until {
                    return Next::Wait(until);
                }
            }
            _ => {}
        }
    }
    if why.is_none() {
        return Next::Idle;
    }
    let attempt = failure.map_or(0, |(failure, _)| failure.attempt);
    let not_before = failure.map_or(seen.now, |(_, time)| end_of_wait(*time, backoff(attempt), seen.now));
    if seen.now < not_before {
        Next::Wait(not_before)
    } else {
        let after = failure.map(|(failure, _)| failure.clone());
        Next::Create(Order { attempt: attempt + 1, after, ..want.clone() })
    }
}

/// How long to wait after the failure of this attempt.
fn backoff(attempt: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY)
}

/// When a wait is over that began at `time`. What lies well in the future was said by a clock that was set since: it is not waited for.
fn end_of_wait(time: Timestamp, wait: Duration, now: Timestamp) -> Timestamp {
    if after(now, CLOCK_DIFFERENCE) < time { now } else { after(time, wait) }
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(time)
}
