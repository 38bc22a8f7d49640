//! The node's own report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use granary_crds::NodeCacheStatus;
use granary_crds::conditions::reasons;
use granary_crds::node_cache::{DatasetReport, Layout, MountLayout, VersionReport};
use granary_csi_driver::health::Trouble;
use granary_csi_driver::node::Parts;
use granary_csi_driver::node_cache::{LONGEST, Last, SHORTEST, report, status};
use k8s_openapi::jiff::Timestamp;

use crate::cluster::cluster;
use crate::mounter::FakeMounter;

fn cached(bytes: i64) -> FakeMounter {
    let version = |pods| VersionReport {
        name: "imagenet-1".into(),
        pod_count: pods,
        missing_bytes: None,
        layout: Some(MountLayout::EROFSLoopFUSE),
    };
    let dataset = |uid: &str, versions| DatasetReport {
        uid: uid.into(),
        namespace: "vision".into(),
        name: "imagenet".into(),
        cached_bytes: bytes,
        versions,
        read_errors: Vec::new(),
    };
    let mounter = FakeMounter::default();
    mounter.change(|mounts| mounts.datasets = vec![dataset("1", vec![]), dataset("2", vec![version(1)])]);
    mounter
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn at(bytes: i64, text: &str, before: Option<&NodeCacheStatus>) -> NodeCacheStatus {
    status(&cached(bytes), None, before, time(text))
}

#[test]
fn says_what_the_node_has_and_what_is_in_use_first() {
    let report = at(4096, "2026-01-01T00:00:00Z", None);
    assert_eq!(report.layout, Some(Layout::EROFSLoop));
    assert_eq!(report.pools[0].used_bytes, Some(40));
    assert_eq!(report.datasets.iter().map(|dataset| dataset.uid.as_str()).collect::<Vec<_>>(), ["2", "1"]);
    assert_eq!((report.conditions[0].status.as_str(), report.conditions[0].reason.as_str()), ("True", "Serving"));
}

#[test]
fn is_written_on_change_but_not_too_often_and_to_show_that_it_lives() {
    let written = Instant::now();
    let second = Duration::from_secs(1);
    let before = at(1, "2026-01-01T00:00:00Z", None);
    let same = at(1, "2026-01-01T00:01:00Z", Some(&before));
    let other = at(2, "2026-01-01T00:01:00Z", Some(&before));
    let last = Last(Some((before, written)));
    assert!(Last::default().is_due(&same, written));
    for (status, age, due) in [
        (&other, SHORTEST - second, false),
        (&other, SHORTEST, true),
        (&same, SHORTEST, false),
        (&same, LONGEST - second, false),
        (&same, LONGEST, true),
    ] {
        assert_eq!(last.is_due(status, written + age), due, "{age:?}");
    }
}

#[test]
fn a_mount_that_is_moved_is_a_change() {
    let mounter = cached(1);
    let now = time("2026-01-01T00:00:00Z");
    let before = status(&mounter, None, None, now);
    mounter.change(|mounts| mounts.datasets[1].versions[0].layout = Some(MountLayout::EROFSLoopNative));
    let after = status(&mounter, None, Some(&before), now);
    let layout = |status: &NodeCacheStatus| status.datasets[0].versions[0].layout;
    assert_eq!(
        (layout(&before), layout(&after)),
        (Some(MountLayout::EROFSLoopFUSE), Some(MountLayout::EROFSLoopNative))
    );
    let written = Instant::now();
    assert!(Last(Some((before, written))).is_due(&after, written + SHORTEST));
}

#[test]
fn trouble_is_a_condition_that_keeps_its_time() {
    let mounter = cached(1);
    mounter.change(|mounts| mounts.unsupported = Some("no EROFS".into()));
    let trouble = || Some(Trouble { reason: reasons::KERNEL_UNSUPPORTED, message: "no EROFS".into() });
    let well = at(1, "2026-01-01T00:00:00Z", None);
    let first = status(&mounter, trouble(), Some(&well), time("2026-01-01T00:01:00Z"));
    let second = status(&mounter, trouble(), Some(&first), time("2026-01-01T00:02:00Z"));
    assert_eq!((first.layout, first.conditions[0].reason.as_str()), (None, "KernelUnsupported"));
    assert_eq!(second.conditions[0].message, "no EROFS");
    assert_eq!(first.conditions[0].last_transition_time.0, time("2026-01-01T00:01:00Z"));
    assert_eq!(first.conditions, second.conditions);
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let (cluster, mounter) = (Arc::new(cluster()), Arc::new(cached(1)));
    cluster.change(|objects| objects.down = true);
    let parts = Arc::new(Parts::new("node1".into(), cluster.clone(), mounter));
    let task = tokio::spawn({
        let parts = parts.clone();
        async move {
            let health = parts.health();
            report(parts.cluster.as_ref(), parts.mounter.as_ref(), &health, &parts.changed).await;
        }
    });
    let attempts = |count| {
        let cluster = cluster.clone();
        async move {
            while cluster.change(|objects| objects.asked) < count {
                tokio::task::yield_now().await;
            }
        }
    };
    attempts(1).await;
    assert!(cluster.change(|objects| objects.reports.is_empty()));
    cluster.change(|objects| objects.down = false);
    parts.changed.notify_one();
    attempts(2).await;
    assert_eq!(cluster.change(|objects| objects.reports.len()), 1);
    task.abort();
}
