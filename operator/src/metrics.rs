//! Metrics of the operator: names, units and what they mean, all here. Names ending in `_total` only grow; all are stable.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::reconcile::ReconcileError;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reported {
    outcome: &'static str,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Reconciled, Counter>,
    reconcile_seconds: Family<Kind, Histogram>,
    jobs_reported: Family<Reported, Counter>,
    /// Index Jobs made.
    pub jobs_created: Counter,
    /// Whether this instance leads.
    pub leader: Gauge,
    /// Size of the image store.
    pub store_bytes: Gauge,
    /// Bytes of artifacts sent to nodes and Jobs.
    pub store_sent_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("granary_operator"),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 8))),
            jobs_reported: Family::default(),
            jobs_created: Counter::default(),
            leader: Gauge::default(),
            store_bytes: Gauge::default(),
            store_sent_bytes: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "reconciles",
            "Reconciles by kind and outcome (ok, conflict, error)",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time that a reconcile took",
            Unit::Seconds,
            self.reconcile_seconds.clone(),
        );
        registry.register("index_jobs_created", "Index Jobs made", self.jobs_created.clone());
        registry.register(
            "index_jobs_reported",
            "Index Jobs that reported, by outcome (version, failed)",
            self.jobs_reported.clone(),
        );
        registry.register("leader", "1 if this instance leads", self.leader.clone());
        registry.register_with_unit("store_size", "Size of the image store", Unit::Bytes, self.store_bytes.clone());
        registry.register_with_unit("store_sent", "Artifacts sent", Unit::Bytes, self.store_sent_bytes.clone());
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, kind: &'static str, error: Option<&ReconcileError>, took: Duration) {
        let outcome = match error {
            None => "ok",
            Some(error) if error.is_conflict() => "conflict",
            Some(_) => "error",
        };
        self.reconciles.get_or_create(&Reconciled { kind, outcome }).inc();
        self.reconcile_seconds.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    /// Counts the report of an index Job.
    pub fn job_reported(&self, is_version: bool) {
        let outcome = if is_version { "version" } else { "failed" };
        self.jobs_reported.get_or_create(&Reported { outcome }).inc();
    }

    /// All metrics in the text format of OpenMetrics.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_stable() {
        let metrics = Metrics::default();
        metrics.reconciled("Dataset", None, Duration::from_millis(1));
        metrics.job_reported(true);
        let text = metrics.text().unwrap();
        for line in [
            "granary_operator_reconciles_total{kind=\"Dataset\",outcome=\"ok\"} 1",
            "granary_operator_reconcile_duration_seconds_count{kind=\"Dataset\"} 1",
            "granary_operator_index_jobs_created_total 0",
            "granary_operator_index_jobs_reported_total{outcome=\"version\"} 1",
            "granary_operator_leader 0",
            "granary_operator_store_size_bytes 0",
            "granary_operator_store_sent_bytes_total 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_reference_has_every_metric() {
        let metrics = Metrics::default();
        metrics.reconciled("Dataset", None, Duration::from_millis(1));
        metrics.job_reported(true);
        let text = metrics.text().unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let exposed: BTreeSet<String> = types
            .map(|(name, kind)| match kind {
                "counter" => format!("{name}_total"),
                _ => name.to_owned(),
            })
            .collect();
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
        let reference = std::fs::read_to_string(reference).unwrap();
        let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: BTreeSet<String> =
            rows.map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("granary_operator_")).collect();
        assert_eq!(documented, exposed);
    }
}
