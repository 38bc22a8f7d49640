//! All metrics of the node, with names, units and meaning. Names are stable; labels are bounded: no pods, no paths.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use granary_crds::node_cache::MountLayout;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use crate::mounter::{MountReport, Mounter};

/// A call of the kubelet that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// NodePublishVolume
    Publish,
    /// NodeUnpublishVolume
    Unpublish,
}

impl Operation {
    /// Value of the label `operation`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    code: &'static str,
}

/// What the node counts.
pub struct Metrics {
    registry: Registry,
    operations: Family<OperationLabels, Histogram, fn() -> Histogram>,
}

impl Metrics {
    /// Metrics of the CSI services; those of the cache are read from `mounter` when they are asked for.
    pub fn new(mounter: Arc<dyn Mounter>) -> Self {
        let mut registry = Registry::with_prefix("granary_node");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The release that runs here", build);
        let operations = Family::new_with_constructor(latencies as fn() -> Histogram);
        registry.register_with_unit(
            "operation_duration",
            "Time until a call of the kubelet was answered, by operation (publish, unpublish) and gRPC code",
            Unit::Seconds,
            operations.clone(),
        );
        registry.register_collector(Box::new(CacheCollector(mounter)));
        Self { registry, operations }
    }

    /// Counts an answered call.
    pub fn finished(&self, operation: Operation, code: Code, took: Duration) {
        let labels = OperationLabels { operation: operation.name(), code: code_name(code) };
        self.operations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn latencies() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

/// Reads the data plane's own numbers at every scrape, so that they are kept in one place.
struct CacheCollector(Arc<dyn Mounter>);

impl fmt::Debug for CacheCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheCollector")
    }
}

impl Collector for CacheCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let report = self.0.report();
        let (traffic, scrub) = (report.traffic, report.scrub);
        for (name, help, unit, value) in [
            ("cache_hits", "Parts that a read found in the cache", None, traffic.hits),
            ("cache_misses", "Parts that a read had to wait for", None, traffic.misses),
            ("source_read", "Read from sources", Some(Unit::Bytes), traffic.source_bytes),
            ("source_requests", "Requests to sources", None, traffic.source_requests),
            ("served", "Served to the kernel", Some(Unit::Bytes), traffic.served_bytes),
            ("prefetched", "Read from sources before it was asked for", Some(Unit::Bytes), traffic.prefetched_bytes),
            ("prefetch_used", "Of what was prefetched, read then", Some(Unit::Bytes), traffic.prefetch_used_bytes),
            ("uncached", "Served without the cache, which had no room", Some(Unit::Bytes), traffic.uncached_bytes),
            ("cache_failed_writes", "Writes that the cache's filesystem refused", None, traffic.failed_writes),
            ("scrub_checked", "Compared with checksums in the background", Some(Unit::Bytes), scrub.checked_bytes),
            ("scrub_passes", "Times that all of a cache was checked", None, scrub.passes),
            ("scrub_damaged_parts", "Cached parts that were damaged on the disk", None, scrub.damaged_parts),
            ("scrub_repaired_parts", "Of the damaged parts, repaired in place", None, scrub.repaired_parts),
        ] {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            counter.encode(metric)?;
        }
        pools(&mut encoder, &report)?;
        mounts(&mut encoder, &report)?;
        let pods: i64 = report
            .datasets
            .iter()
            .flat_map(|dataset| &dataset.versions)
            .map(|version| i64::from(version.pod_count))
            .sum();
        gauge(&mut encoder, "published_volumes", "Volumes that are published to pods", pods)?;
        gauge(
            &mut encoder,
            "cached_datasets",
            "Datasets that are cached or published, or of which a read failed",
            report.datasets.len() as i64,
        )?;
        let errors: i64 =
            report.datasets.iter().flat_map(|dataset| &dataset.read_errors).map(|error| error.count).sum();
        let counter = ConstCounter::new(errors.max(0) as u64);
        counter.encode(encoder.encode_descriptor("read_errors", "Reads that failed", None, MetricType::Counter)?)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// Every layout at each scrape, so that a mount that moves is seen in both.
fn mounts(encoder: &mut DescriptorEncoder<'_>, report: &MountReport) -> fmt::Result {
    let mut family = encoder.encode_descriptor("mounts", "Mounted versions, by layout", None, MetricType::Gauge)?;
    for (layout, name) in MountLayout::NAMES {
        let versions = report.datasets.iter().flat_map(|dataset| &dataset.versions);
        let count = versions.filter(|version| version.layout == Some(layout)).count();
        ConstGauge::new(count as i64).encode(family.encode_family(&[("layout", name)])?)?;
    }
    Ok(())
}

fn pools(encoder: &mut DescriptorEncoder<'_>, report: &MountReport) -> fmt::Result {
    for (name, help, value) in [
        (
            "cache_used",
            "Used by the cache of a class",
            (|pool| pool.used_bytes) as fn(&granary_crds::node_cache::PoolReport) -> Option<i64>,
        ),
        ("cache_limit", "Most that the cache of a class may use now", |pool| pool.limit_bytes),
        ("cache_free", "What the cache of a class could take more now without evicting", |pool| pool.free_bytes),
    ] {
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for pool in &report.pools {
            if let Some(bytes) = value(pool) {
                let labels = [("class", pool.class_name.as_str())];
                ConstGauge::new(bytes).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

/// Names of gRPC codes as the specification writes them.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
