//! `e2e/demo`: the main job on real data, as a user would do it, with every byte compared.

mod data;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::kube::Kubectl;
use crate::paths::{Paths, checkout};
use crate::s3::{READER, S3};
use crate::{exec, images, install, progress};

const NAMESPACE: &str = "demo";
/// For the slowest pod, which reads 2 GiB through a cold cache.
const PATIENCE: Duration = Duration::from_secs(300);

/// Sets everything up, runs the main job and shows what happens.
pub fn run(paths: &Paths) -> Result<()> {
    let begun = Instant::now();
    heading("A real Kubernetes on this machine");
    let cluster = Cluster::up(paths)?;
    let kubectl = cluster.kubectl();

    heading("A real S3 server with real data");
    let s3 = S3::start(paths)?;
    let originals = data::originals(paths)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for original in &originals {
        runtime.block_on(data::upload(&s3, original))?;
    }

    heading("Granary, by its chart");
    install::install(&cluster)?;
    let (probe, image) = images::probe(paths)?;
    cluster.load_image(&image)?;
    show(&kubectl, &["get", "pods", "-n", install::NAMESPACE])?;

    heading("Three datasets");
    // A second run starts its pods anew; the datasets and what the node has cached stay.
    kubectl.run(["delete", "pod", "--all", "-n", NAMESPACE, "--ignore-not-found"])?;
    kubectl.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n"))?;
    kubectl.apply(&secret())?;
    let datasets = manifest("datasets.yaml")?;
    println!("{datasets}");
    kubectl.apply(&datasets)?;
    show(&kubectl, &["get", "datasets", "-n", NAMESPACE])?;
    for original in &originals {
        kubectl.wait(NAMESPACE, &format!("dataset/{}", original.dataset), "condition=Ready", PATIENCE)?;
    }
    show(&kubectl, &["get", "datasets,datasetversions,pvc", "-n", NAMESPACE])?;

    heading("Pods that read every byte");
    kubectl.apply(&manifest("pods.yaml")?)?;
    for original in &originals {
        let pod = format!("read-{}", original.dataset);
        let found = finished(&kubectl, &pod)?;
        let expected = exec::output(Command::new(&probe).arg("digest").arg(&original.dir))?;
        println!("  {pod}: {}", found.trim());
        ensure!(found.trim() == expected.trim(), "{pod} read something else than the source has: {}", expected.trim());
    }
    let model = originals.iter().find(|o| o.dataset == "minilm").context("the model is one of the datasets")?;
    let found = finished(&kubectl, "use-minilm")?;
    let expected = exec::output(Command::new(&probe).arg("model").arg(model.dir.join("model.safetensors")))?;
    ensure!(
        !expected.trim().is_empty() && found.trim() == expected.trim(),
        "use-minilm computed something else:\n{found}"
    );
    println!(
        "  use-minilm: the norms of {} tensors, computed from the mapped weights, are right",
        expected.lines().count()
    );

    heading("What the node has cached");
    show(&kubectl, &["get", "nodecaches"])?;
    show(&kubectl, &["get", "nodecaches", "-o", CACHED])?;
    show(&kubectl, &["get", "datasets", "-n", NAMESPACE])?;
    farewell(&cluster, begun);
    Ok(())
}

/// Stops the cluster and removes all that it made.
pub fn down(paths: &Paths) -> Result<()> {
    Cluster::down(paths)
}

const CACHED: &str =
    "jsonpath={range .items[*].status.datasets[*]}{.namespace}/{.name}: {.cachedBytes} bytes cached{\"\\n\"}{end}";

fn secret() -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s3-read, namespace: {NAMESPACE}}}\nstringData:\n  \
         AWS_ACCESS_KEY_ID: {}\n  AWS_SECRET_ACCESS_KEY: {}\n",
        READER.access_key, READER.secret_key
    )
}

fn manifest(name: &str) -> Result<String> {
    let path = checkout().join("e2e/manifests/demo").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Waits for a pod's end and returns its log.
fn finished(kubectl: &Kubectl, pod: &str) -> Result<String> {
    let waited = kubectl.wait(NAMESPACE, &format!("pod/{pod}"), "jsonpath={.status.phase}=Succeeded", PATIENCE);
    waited.with_context(|| {
        format!("{pod} did not end well; its log:\n{}", kubectl.logs(NAMESPACE, pod).unwrap_or_default())
    })?;
    kubectl.logs(NAMESPACE, pod)
}

fn show(kubectl: &Kubectl, arguments: &[&str]) -> Result<()> {
    println!("$ kubectl {}", arguments.join(" "));
    println!("{}\n", kubectl.run(arguments)?);
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn farewell(cluster: &Cluster, begun: Instant) {
    println!("== To go on");
    println!("  eval \"$(cargo run -q -p granary-e2e -- cluster env)\"   # KUBECONFIG, kubectl and helm");
    println!("  kubectl -n {NAMESPACE} get datasets,pods,pvc");
    println!("  kubectl -n {NAMESPACE} describe dataset corpus");
    println!("  logs of the cluster's processes: {}", cluster.paths().state.join("log").display());
    println!("  e2e/demo down   # stops the cluster and removes it");
    println!("\nIt took {}.\ndemo: ok", progress::human(begun.elapsed()));
}
