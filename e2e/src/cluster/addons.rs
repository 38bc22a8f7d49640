//! What a cluster needs besides its processes: names of Services for pods.

use std::time::Duration;

use anyhow::Result;

use super::layout::DNS_SERVICE;
use crate::images::COREDNS;
use crate::kube::Kubectl;

/// Applies the add-ons and waits until they work.
pub(super) fn apply(kubectl: &Kubectl) -> Result<()> {
    kubectl.apply(&manifest())?;
    kubectl.rollout("kube-system", "deployment/coredns", Duration::from_secs(120))
}

/// Whether the add-ons work.
pub(super) fn is_ready(kubectl: &Kubectl) -> bool {
    let replicas =
        ["get", "deployment", "coredns", "-n", "kube-system", "--output", "jsonpath={.status.readyReplicas}"];
    kubectl.run(replicas).is_ok_and(|ready| ready == "1")
}

/// What is applied.
pub(super) fn manifest() -> String {
    include_str!("coredns.yaml").replace("{IMAGE}", COREDNS).replace("{ADDRESS}", &DNS_SERVICE.to_string())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[test]
    fn the_manifest_is_yaml_without_placeholders() {
        let text = super::manifest();
        assert!(!text.contains("{IMAGE}") && !text.contains("{ADDRESS}"));
        let kinds: Vec<String> = serde_norway::Deserializer::from_str(&text)
            .map(|document| serde_norway::Value::deserialize(document).unwrap()["kind"].as_str().unwrap().to_owned())
            .collect();
        assert!(kinds.contains(&"Deployment".into()) && kinds.contains(&"Service".into()), "{kinds:?}");
    }
}
