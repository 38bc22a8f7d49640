//! Before an uninstall: nothing may use a volume, and nothing may stay that only the operator could remove.

use std::time::Duration;

use anyhow::{Context as _, bail};
use granary_crds::names::{CSI_DRIVER, IN_USE_FINALIZER};
use granary_crds::{DataStorageClass, Dataset, NodeCache};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use crate::cli::CommonArgs;
use crate::lease::{Holder, PERIOD};
use crate::reconcile::write;

/// How long the operator is kept from leading, from when it sees that it no longer leads: until Helm has deleted it, and not so long
/// that a new installation waits for it.
const KEPT_OFF: Duration = Duration::from_secs(20);

/// How long after a pod's end its node may still report the volume: it reports at most every 15 s, and the kubelet takes its time.
const REPORTED_WITHIN: Duration = Duration::from_secs(60);

/// Fails with a list while pods use volumes, else takes the Lease and removes finalizers.
pub async fn run(args: &CommonArgs) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_default().await.context("find the API server")?;
    let pods = pods(&client).await?;
    if !pods.is_empty() {
        bail!("pods use volumes of Granary; delete them first, then uninstall again:\n{}", pods.join("\n"));
    }
    let begun = Instant::now();
    loop {
        let nodes =
            Api::<NodeCache>::all(client.clone()).list(&ListParams::default()).await.context("list NodeCaches")?;
        let mounted: Vec<String> = nodes.iter().filter_map(mounted).collect();
        if mounted.is_empty() {
            break;
        }
        if begun.elapsed() > REPORTED_WITHIN {
            bail!(
                "volumes of Granary are still mounted; wait or look at these nodes, then uninstall again:\n{}",
                mounted.join("\n")
            );
        }
        tokio::time::sleep(PERIOD).await;
    }
    Holder::new(client.clone(), &args.namespace, &args.pod_name).seize(KEPT_OFF).await?;
    // The operator notices when it renews, and ends; before that it would put back what is taken off here.
    tokio::time::sleep(PERIOD * 2).await;
    let datasets = Api::<Dataset>::all(client.clone()).list(&ListParams::default()).await.context("list Datasets")?;
    for dataset in datasets {
        release(&write::namespaced::<Dataset>(&client, &dataset), &dataset).await?;
    }
    let classes = Api::<DataStorageClass>::all(client.clone());
    for class in classes.list(&ListParams::default()).await.context("list DataStorageClasses")? {
        release(&classes, &class).await?;
    }
    tracing::info!("no pod uses a volume; finalizers are removed");
    Ok(())
}

async fn release<K: write::Object>(api: &Api<K>, object: &K) -> anyhow::Result<()> {
    let done = write::metadata(api, object, (IN_USE_FINALIZER, false), &[]).await;
    done.with_context(|| format!("remove the finalizer of {}", object.name_any()))
}

/// One line for each pod that uses a volume of ours.
async fn pods(client: &Client) -> anyhow::Result<Vec<String>> {
    let all = ListParams::default();
    let volumes = Api::<PersistentVolume>::all(client.clone()).list(&all).await.context("list volumes")?;
    let ours = volumes.iter().filter(|volume| is_ours(volume)).filter_map(|volume| volume.metadata.name.as_deref());
    let ours: Vec<&str> = ours.collect();
    let claims = Api::<PersistentVolumeClaim>::all(client.clone()).list(&all).await.context("list claims")?;
    let bound = |claim: &&PersistentVolumeClaim| {
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        volume.is_some_and(|volume| ours.contains(&volume))
    };
    let claims: Vec<(String, String)> =
        claims.iter().filter(bound).map(|claim| (claim.namespace().unwrap_or_default(), claim.name_any())).collect();
    let pods = Api::<Pod>::all(client.clone()).list(&all).await.context("list pods")?;
    let using = pods.iter().filter(|pod| uses(pod, &claims));
    Ok(using.map(|pod| format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any())).collect())
}

fn is_ours(volume: &PersistentVolume) -> bool {
    let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    csi.is_some_and(|csi| csi.driver == CSI_DRIVER)
}

fn uses(pod: &Pod, claims: &[(String, String)]) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return false;
    }
    let namespace = pod.namespace().unwrap_or_default();
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| {
        let inline = volume.csi.as_ref().is_some_and(|csi| csi.driver == CSI_DRIVER);
        let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            // Kubernetes makes a claim of this name.
            (None, Some(_)) => Some(format!("{}-{}", pod.name_any(), volume.name)),
            (None, None) => None,
        };
        inline || claim.is_some_and(|claim| claims.contains(&(namespace.clone(), claim)))
    })
}

/// A pod that has ended may still be mounted.
fn mounted(node: &NodeCache) -> Option<String> {
    let reports = node.status.iter().flat_map(|status| &status.datasets);
    let count: i32 = reports.flat_map(|report| &report.versions).map(|version| version.pod_count).sum();
    (count > 0).then(|| format!("node {}: {count} volumes are still mounted", node.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn finds_the_pods_that_use_a_volume() {
        let claims = [("a".to_owned(), "imagenet".to_owned()), ("a".to_owned(), "p-scratch".to_owned())];
        let claim = |name: &str| json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
        for (namespace, phase, volume, expected) in [
            ("a", "Running", claim("imagenet"), true),
            ("a", "Pending", claim("imagenet"), true),
            ("a", "Succeeded", claim("imagenet"), false),
            ("b", "Running", claim("imagenet"), false),
            ("a", "Running", claim("other"), false),
            ("b", "Running", json!({"name": "v", "csi": {"driver": CSI_DRIVER}}), true),
            ("b", "Running", json!({"name": "v", "csi": {"driver": "other"}}), false),
            ("a", "Running", json!({"name": "scratch", "ephemeral": {}}), true),
            ("a", "Running", json!({"name": "v", "emptyDir": {}}), false),
        ] {
            let pod: Value = json!({
                "metadata": {"name": "p", "namespace": namespace},
                "spec": {"containers": [], "volumes": [volume]},
                "status": {"phase": phase},
            });
            let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
            assert_eq!(uses(&pod, &claims), expected, "{pod:?}");
        }
    }
}
