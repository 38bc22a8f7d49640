//! Probes and metrics.

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use granary_crds::node_cache::{DatasetReport, MountLayout, VersionReport};
use granary_csi_driver::proto::registration::RegistrationStatus;
use tower::ServiceExt;

use crate::driver::Driver;

/// A dataset with a version for each of `layouts`.
fn dataset(layouts: &[MountLayout]) -> DatasetReport {
    let version = |layout: &MountLayout| VersionReport { layout: Some(*layout), ..VersionReport::default() };
    DatasetReport { versions: layouts.iter().map(version).collect(), ..DatasetReport::default() }
}

async fn get(driver: &Driver, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = driver.parts.router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_waits_for_the_kubelet_and_liveness_does_not() {
    let driver = Driver::start().await;
    assert_eq!(get(&driver, "/healthz").await.0, StatusCode::OK);
    assert_eq!(get(&driver, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let status = RegistrationStatus { plugin_registered: true, error: String::new() };
    driver.registration().await.notify_registration_status(status).await.unwrap();
    assert_eq!(get(&driver, "/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_have_the_cache_and_the_outcomes() {
    let driver = Driver::start().await;
    driver.mounter.change(|mounts| mounts.datasets = vec![dataset(&[MountLayout::EROFSFile, MountLayout::EROFSFile])]);
    driver.publish(driver.request("a")).await.unwrap();
    driver.publish(driver.request_with("b", &[("uid", "")])).await.unwrap_err();
    let (status, text) = get(&driver, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        "granary_node_operation_duration_seconds_count{operation=\"publish\",code=\"OK\"} 1",
        "granary_node_operation_duration_seconds_count{operation=\"publish\",code=\"INVALID_ARGUMENT\"} 1",
        "granary_node_cache_hits_total 7",
        "granary_node_cache_misses_total 3",
        "granary_node_source_read_bytes_total 4096",
        "granary_node_source_requests_total 2",
        "granary_node_served_bytes_total 8192",
        "granary_node_prefetched_bytes_total 2048",
        "granary_node_prefetch_used_bytes_total 1024",
        "granary_node_uncached_bytes_total 512",
        "granary_node_cache_failed_writes_total 5",
        "granary_node_scrub_checked_bytes_total 32768",
        "granary_node_scrub_passes_total 4",
        "granary_node_scrub_damaged_parts_total 2",
        "granary_node_scrub_repaired_parts_total 1",
        "granary_node_mounts{layout=\"EROFSFile\"} 2",
        "granary_node_mounts{layout=\"EROFSLoopFUSE\"} 0",
        "granary_node_cache_used_bytes{class=\"granary\"} 40",
        "granary_node_cache_limit_bytes{class=\"granary\"} 100",
        "granary_node_cache_free_bytes{class=\"granary\"} 1000",
        "granary_node_build_info{version=",
    ] {
        assert!(text.contains(line), "'{line}' is not in:\n{text}");
    }
}

#[tokio::test]
async fn the_reference_has_every_metric() {
    let driver = Driver::start().await;
    driver.publish(driver.request("a")).await.unwrap();
    let (_, text) = get(&driver, "/metrics").await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let exposed: BTreeSet<String> = types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<String> =
        rows.map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("granary_node_")).collect();
    assert_eq!(documented, exposed);
}
