//! The index Job of a Dataset.

use std::collections::BTreeMap;

use granary_crds::Dataset;
use granary_crds::names::{DATASET_LABEL, TOKEN_AUDIENCE};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::order::{Look, Order};
use super::plan::policy::reads_files;
use crate::names;
use crate::reconcile::owner;

/// Longest run of an index Job. The store keeps what no version names for longer than this.
pub const DEADLINE_SECONDS: i64 = 4 * 3600;
/// How long a finished Job stays for its log.
const KEPT_SECONDS: i32 = 24 * 3600;

const TOKEN_DIR: &str = "/var/run/secrets/granary";
const SECRET_DIR: &str = "/etc/granary/secret";
const WORK_DIR: &str = "/var/lib/granary";

/// What every Job has in common.
#[derive(Clone, Debug, Default)]
pub struct JobSettings {
    /// The release's namespace: Jobs of `file://` datasets run there.
    pub namespace: String,
    /// Image with `granary-csi`.
    pub image: String,
    /// When to pull it.
    pub image_pull_policy: String,
    /// Secrets for pulling it.
    pub image_pull_secrets: Vec<String>,
    /// Resources of the pod.
    pub resources: ResourceRequirements,
    /// URL of the image store.
    pub store_url: String,
    /// Certificate of its CA, PEM.
    pub store_ca: String,
    /// Host directories that `file://` sources may be below.
    pub file_roots: Vec<String>,
}

/// The Job that carries out `order`. Its name is the same as long as nothing new is known, so that a plan made twice makes it once.
pub fn job(dataset: &Dataset, order: &Order, settings: &JobSettings) -> Result<Job, serde_json::Error> {
    let files = reads_files(&dataset.spec.sources);
    let own_namespace = dataset.namespace().unwrap_or_default();
    let namespace = if files { settings.namespace.clone() } else { own_namespace.clone() };
    // No owner reference crosses namespaces: such a Job is deleted with the Dataset's finalizer.
    let owners = if namespace == own_namespace { owner::reference(dataset) } else { Vec::new() };
    let uid = dataset.uid().unwrap_or_default();
    let labels = json!({
        "app.kubernetes.io/name": "granary",
        "app.kubernetes.io/component": "index",
        DATASET_LABEL: dataset.name_any(),
        names::DATASET_UID_LABEL: uid,
    });
    let roots: &[String] = if files { &settings.file_roots } else { &[] };
    let secret = dataset.spec.credentials.as_ref().and_then(|credentials| credentials.secret_ref.as_ref());
    // In the release's namespace the name would be that of somebody else's Secret; the plan refuses such a Dataset.
    let secret = secret.filter(|_| !files);
    let (volumes, mounts) = volumes(secret.map(|secret| secret.name.as_str()), roots);
    let mut env = vec![json!({"name": "GRANARY_STORE_CA", "value": settings.store_ca})];
    if let Some(secret) = secret {
        env.push(json!({"name": "GRANARY_SECRET_DIR", "value": SECRET_DIR}));
        env.push(json!({"name": "GRANARY_SECRET_NAME", "value": secret.name}));
    }
    let mut command = vec![
        "/usr/bin/granary-csi".to_owned(),
        "index".to_owned(),
        format!("--store-url={}", settings.store_url),
        format!("--token-file={TOKEN_DIR}/token"),
        format!("--work-dir={WORK_DIR}"),
    ];
    command.extend(roots.iter().map(|root| format!("--file-root={root}")));
    let pull_secrets: Vec<Value> = settings.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();

    serde_json::from_value(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name(dataset, order),
            "namespace": namespace,
            "labels": labels,
            "annotations": {names::ORDER_ANNOTATION: serde_json::to_string(order)?},
            "ownerReferences": owners,
        },
        "spec": {
            // The operator repeats with a backoff of its own, and tells why.
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": "default",
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "imagePullSecrets": pull_secrets,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "index",
                        "image": settings.image,
                        "imagePullPolicy": settings.image_pull_policy,
                        "command": command,
                        "env": env,
                        "resources": settings.resources,
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": mounts,
                    }],
                    "volumes": volumes,
                },
            },
        },
    }))
}

fn volumes(secret: Option<&str>, file_roots: &[String]) -> (Vec<Value>, Vec<Value>) {
    let mut volumes = vec![
        json!({"name": "token", "projected": {"defaultMode": 0o440, "sources": [
            {"serviceAccountToken": {"audience": TOKEN_AUDIENCE, "path": "token", "expirationSeconds": 3600}},
        ]}}),
        json!({"name": "work", "emptyDir": {}}),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    let mut mounts = vec![
        json!({"name": "token", "mountPath": TOKEN_DIR, "readOnly": true}),
        json!({"name": "work", "mountPath": WORK_DIR}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    if let Some(secret) = secret {
        // Optional: the Job itself says that the Secret does not exist; a pod that cannot start says less.
        volumes
            .push(json!({"name": "secret", "secret": {"secretName": secret, "optional": true, "defaultMode": 0o440}}));
        mounts.push(json!({"name": "secret", "mountPath": SECRET_DIR, "readOnly": true}));
    }
    for (number, root) in file_roots.iter().enumerate() {
        let name = format!("root-{number}");
        volumes.push(json!({"name": name, "hostPath": {"path": root, "type": "Directory"}}));
        mounts.push(json!({"name": name, "mountPath": root, "readOnly": true}));
    }
    (volumes, mounts)
}

fn name(dataset: &Dataset, order: &Order) -> String {
    let look = Look::of(dataset).map(|look| look.time.to_string());
    let parts: BTreeMap<&str, Value> = BTreeMap::from([
        ("uid", json!(dataset.uid())),
        ("order", json!([order.sources, order.manual, order.pin, order.attempt])),
        ("look", json!(look)),
    ]);
    let hash = Sha256::digest(json!(parts).to_string());
    format!("{}-{}", dataset.name_any(), hex::encode(&hash[..5]))
}
