//! The chart's limit of memory, and the cgroup that keeps it.

use anyhow::{Context, Result};

pub(super) use crate::memory_group::Group;
use crate::paths::checkout;

/// What the chart's comment promises where it sets no limit.
const PROMISED_BYTES: u64 = 200 << 20;

/// The node container's memory limit in the chart's values, or what it promises without one.
pub(super) fn of_chart() -> Result<u64> {
    let path = checkout().join("charts/granary/values.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    from_values(&text)
}

fn from_values(text: &str) -> Result<u64> {
    let values: serde_json::Value = serde_norway::from_str(text).context("reading the chart's values")?;
    match values.pointer("/node/resources/limits/memory").and_then(serde_json::Value::as_str) {
        None => Ok(PROMISED_BYTES),
        Some(size) => parse_size(size).with_context(|| format!("the chart's memory limit {size} is no size")),
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix("Gi") {
        Some(digits) => (digits, 30),
        None => (text.strip_suffix("Mi")?, 20),
    };
    Some(digits.parse::<u64>().ok()? << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_charts_or_what_it_promises() {
        let values = |limits: &str| format!("node:\n  resources:\n    requests: {{memory: 128Mi}}\n{limits}");
        assert_eq!(from_values(&values("    limits: {memory: 512Mi}\n")).unwrap(), 512 << 20);
        assert_eq!(from_values(&values("    limits: {memory: 1Gi}\n")).unwrap(), 1 << 30);
        assert_eq!(from_values(&values("")).unwrap(), PROMISED_BYTES);
        assert!(from_values(&values("    limits: {memory: much}\n")).is_err());
        assert!(of_chart().unwrap() >= 64 << 20);
    }
}
