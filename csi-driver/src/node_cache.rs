//! The node's own report: its NodeCache. Nodes write nothing else; the operator draws conclusions from it.

use std::time::{Duration, Instant};

use granary_crds::conditions::{reasons, types};
use granary_crds::{Condition, NodeCacheStatus, Time};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::health::{Health, Trouble};
use crate::mounter::Mounter;

/// A change is reported at most this often; and a change that nobody has told of is found after this long.
pub const SHORTEST: Duration = Duration::from_secs(15);
/// Without a change, the report is written this often, to show that the node lives.
pub const LONGEST: Duration = Duration::from_secs(300);

// Most entries of each list, as the schema has it: the API server refuses a longer one, and then knows nothing of this node.
const POOLS_MAX: usize = 32;
const DATASETS_MAX: usize = 512;
const VERSIONS_MAX: usize = 64;
const READ_ERRORS_MAX: usize = 16;

/// Reports for as long as it is polled. `changed` tells of what should be reported soon.
pub async fn report(cluster: &dyn Cluster, mounter: &dyn Mounter, health: &Health, changed: &Notify) {
    let mut last = Last::default();
    loop {
        let now = Instant::now();
        let status = status(mounter, health.trouble(), last.status(), Timestamp::now());
        if last.is_due(&status, now) {
            match cluster.put_node_cache(&status).await {
                Ok(()) => last = Last(Some((status, now))),
                // What could not be written now is still news at the next look.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        // Nobody tells of bytes that were cached, and a change that came too early is not told again: so look now and then.
        let _timed_out = timeout(SHORTEST, changed.notified()).await;
    }
}

/// The report that was written last, and when.
#[derive(Clone, Debug, Default)]
pub struct Last(pub Option<(NodeCacheStatus, Instant)>);

impl Last {
    fn status(&self) -> Option<&NodeCacheStatus> {
        self.0.as_ref().map(|(status, _)| status)
    }

    /// Whether `status` should be written at `now`.
    pub fn is_due(&self, status: &NodeCacheStatus, now: Instant) -> bool {
        self.0.as_ref().is_none_or(|(written, at)| {
            let age = now.saturating_duration_since(*at);
            age >= LONGEST || age >= SHORTEST && !same(written, status)
        })
    }
}

/// The report of this moment. `reported` is the last one, whose conditions keep their time of transition.
pub fn status(
    mounter: &dyn Mounter,
    trouble: Option<Trouble>,
    reported: Option<&NodeCacheStatus>,
    now: Timestamp,
) -> NodeCacheStatus {
    let mut report = mounter.report();
    report.pools.sort_by(|a, b| a.class_name.cmp(&b.class_name));
    report.pools.truncate(POOLS_MAX);
    // What is in use comes first, should there be too many.
    report.datasets.sort_by(|a, b| (a.versions.is_empty(), &a.uid).cmp(&(b.versions.is_empty(), &b.uid)));
    report.datasets.truncate(DATASETS_MAX);
    for dataset in &mut report.datasets {
        dataset.versions.sort_by(|a, b| a.name.cmp(&b.name));
        dataset.versions.truncate(VERSIONS_MAX);
        dataset.read_errors.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        dataset.read_errors.truncate(READ_ERRORS_MAX);
    }
    NodeCacheStatus {
        report_time: Some(Time(now)),
        layout: mounter.support().ok(),
        pools: report.pools,
        datasets: report.datasets,
        conditions: vec![ready(trouble, reported, now)],
        ..NodeCacheStatus::default()
    }
}

fn ready(trouble: Option<Trouble>, reported: Option<&NodeCacheStatus>, now: Timestamp) -> Condition {
    let (status, reason, message) = match trouble {
        None => ("True", reasons::SERVING, "the node mounts datasets".to_owned()),
        Some(trouble) => ("False", trouble.reason, trouble.message),
    };
    let before =
        reported.and_then(|reported| reported.conditions.iter().find(|condition| condition.type_ == types::READY));
    let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: types::READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: None,
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

/// Whether two reports say the same, apart from when.
fn same(a: &NodeCacheStatus, b: &NodeCacheStatus) -> bool {
    let timeless = |status: &NodeCacheStatus| NodeCacheStatus { report_time: None, ..status.clone() };
    timeless(a) == timeless(b)
}
