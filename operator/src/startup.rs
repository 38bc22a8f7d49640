//! What a new leader does once.

use std::path::Path;

use anyhow::Context as _;
use granary_crds::DataStorageClass;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

/// Field manager of the chart's default class.
const CHART: &str = "granary-chart";

/// Writes the CA's certificate where nodes find it.
pub async fn publish_ca(client: &Client, namespace: &str, name: &str, ca_pem: &str) -> anyhow::Result<()> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"data": {"ca.crt": ca_pem}}));
    api.patch(name, &PatchParams::default(), &patch).await.with_context(|| {
        format!("write the store's CA into the ConfigMap {namespace}/{name}, which the chart makes")
    })?;
    Ok(())
}

/// Applies the chart's default class: Helm cannot, because the class's kind comes with the same chart. What a user changed stays.
pub async fn apply_default_class(client: &Client, path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let manifest: Value = serde_json::from_str(&text).with_context(|| format!("read {} as JSON", path.display()))?;
    let class: DataStorageClass = serde_json::from_value(manifest.clone())
        .with_context(|| format!("{} is no DataStorageClass", path.display()))?;
    let api = Api::<DataStorageClass>::all(client.clone());
    match api.patch(&class.name_any(), &PatchParams::apply(CHART), &Patch::Apply(&manifest)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 422 => {
            tracing::warn!(
                class = class.name_any(),
                error = status.message,
                "the chart's default class differs from what is there"
            );
            Ok(())
        }
        Err(error) => Err(error).context("apply the default class"),
    }
}
