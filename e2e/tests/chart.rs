//! The chart without a cluster: what `helm lint` says and what `helm template` makes of values.

use std::process::Command;

use anyhow::Result;
use granary_e2e::exec;
use granary_e2e::paths::{Paths, checkout};
use granary_e2e::tools::Tools;
use serde::Deserialize;
use serde_json::Value;

/// Paths of all values that a schema or a values file names, without what is the user's own below them.
fn paths(prefix: &str, members: &Value, below: &impl Fn(&Value) -> Option<&Value>, found: &mut Vec<String>) {
    for (name, member) in members.as_object().into_iter().flatten() {
        let path = format!("{prefix}.{name}");
        match below(member).filter(|members| members.as_object().is_some_and(|members| !members.is_empty())) {
            Some(members) => paths(&path, members, below, found),
            None => found.push(path),
        }
    }
}

#[test]
fn every_value_has_a_default_and_a_comment() {
    let chart = checkout().join("charts/granary");
    let text = std::fs::read_to_string(chart.join("values.yaml")).unwrap();
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(chart.join("values.schema.json")).unwrap()).unwrap();
    let values: Value = serde_norway::from_str(&text).unwrap();
    let mut known = Vec::new();
    paths("", &schema["properties"], &|member| member.get("properties"), &mut known);
    for path in known.iter().filter(|path| *path != ".global" && !path.contains(".resources.")) {
        let pointer = path.replace('.', "/");
        assert!(values.pointer(&pointer).is_some(), "values.yaml does not show {path}");
    }
    for block in text.split("\n\n").skip(1) {
        assert!(block.contains("# "), "no comment in:\n{block}");
    }
}

/// The helm of the end-to-end tests, or the one of the machine.
fn helm() -> Command {
    let built = Tools::locate(&Paths::from_env().unwrap()).helm();
    let mut helm = if built.exists() { Command::new(built) } else { Command::new("helm") };
    helm.current_dir(checkout());
    helm
}

/// The objects that the chart makes of these values.
fn template(set: &[&str]) -> Result<Vec<Value>> {
    let mut helm = helm();
    helm.args(["template", "granary", "charts/granary", "--namespace", "granary-system"]);
    for value in set {
        helm.args(["--set", value]);
    }
    let text = exec::output(&mut helm)?;
    let objects = serde_norway::Deserializer::from_str(&text).map(|document| Ok(Value::deserialize(document)?));
    objects.filter(|object| !matches!(object, Ok(Value::Null))).collect()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("the chart makes no {kind} {name}"))
}

fn container(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"][0]
}

fn volume<'a>(object: &'a Value, name: &str) -> &'a Value {
    let volumes = object["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    volumes.iter().find(|volume| volume["name"] == name).unwrap_or_else(|| panic!("no volume {name}"))
}

fn has(list: &Value, text: &str) -> bool {
    list.as_array().unwrap().iter().any(|item| item == text)
}

#[test]
#[ignore = "needs helm"]
fn lint_finds_nothing() {
    exec::output(helm().args(["lint", "--strict", "charts/granary"])).unwrap();
}

#[test]
#[ignore = "needs helm"]
fn crds_are_kept_and_can_be_left_out() {
    let crds = |objects: &[Value]| -> Vec<Value> {
        objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition").cloned().collect()
    };
    let made = crds(&template(&[]).unwrap());
    assert_eq!(made.len(), 5);
    for crd in made {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{}", crd["metadata"]["name"]);
    }
    assert!(crds(&template(&["crds.install=false"]).unwrap()).is_empty());
}

#[test]
#[ignore = "needs helm"]
fn no_role_reaches_secrets_or_everything() {
    for object in template(&[]).unwrap() {
        for rule in object["rules"].as_array().into_iter().flatten() {
            for member in ["apiGroups", "resources", "verbs"] {
                assert!(!has(&rule[member], "*"), "{}: {rule}", object["metadata"]["name"]);
            }
            assert!(!has(&rule["resources"], "secrets"), "{}: {rule}", object["metadata"]["name"]);
        }
    }
}

#[test]
#[ignore = "needs helm"]
fn granting_is_not_part_of_edit() {
    let objects = template(&[]).unwrap();
    let granter = find(&objects, "ClusterRole", "granary-dataset-granter");
    assert!(granter["metadata"]["labels"].as_object().unwrap().keys().all(|label| !label.contains("aggregate")));
    let editor = find(&objects, "ClusterRole", "granary-dataset-editor");
    assert!(editor["rules"].as_array().unwrap().iter().all(|rule| !has(&rule["resources"], "datasetgrants")));
}

#[test]
#[ignore = "needs helm"]
fn the_operator_is_confined_and_the_node_can_mount() {
    let objects = template(&[]).unwrap();
    let operator = find(&objects, "Deployment", "granary-operator");
    assert_eq!(operator["spec"]["strategy"]["type"], "Recreate");
    assert_eq!(operator["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container(operator)["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(has(&container(operator)["securityContext"]["capabilities"]["drop"], "ALL"));

    let node = find(&objects, "DaemonSet", "granary-node");
    assert_eq!(container(node)["securityContext"]["privileged"], true);
    let kubelet = container(node)["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "kubelet");
    assert_eq!(kubelet.unwrap()["mountPropagation"], "Bidirectional");
    let token = &volume(node, "token")["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], granary_crds::names::TOKEN_AUDIENCE);
}

#[test]
#[ignore = "needs helm"]
fn the_keeper_has_no_rights_and_no_reason_to_be_replaced() {
    let objects = template(&["kubeletDir=/data/kubelet"]).unwrap();
    let keeper = find(&objects, "DaemonSet", "granary-keeper");
    assert_eq!(keeper["spec"]["updateStrategy"]["type"], "OnDelete");
    assert_eq!(keeper["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
    let security = &container(keeper)["securityContext"];
    assert_eq!(security["privileged"], false);
    assert!(has(&security["capabilities"]["drop"], "ALL"));
    // Both name one socket, which is on the host.
    let socket = "/data/kubelet/plugins/csi.granary.dev/keeper/keeper.sock";
    assert!(has(&container(keeper)["args"], &format!("--socket={socket}")));
    let node = find(&objects, "DaemonSet", "granary-node");
    assert!(has(&container(node)["args"], &format!("--keeper-socket={socket}")));
    let path = &volume(keeper, "socket")["hostPath"]["path"];
    assert!(socket.starts_with(path.as_str().unwrap()) && container(keeper)["volumeMounts"][0]["mountPath"] == *path);
}

#[test]
#[ignore = "needs helm"]
fn the_driver_object_says_what_the_driver_relies_on() {
    let objects = template(&[]).unwrap();
    let spec = &find(&objects, "CSIDriver", granary_crds::names::CSI_DRIVER)["spec"];
    assert_eq!(spec["attachRequired"], false);
    assert_eq!(spec["podInfoOnMount"], true);
    assert_eq!(spec["requiresRepublish"], true);
    assert_eq!(spec["fsGroupPolicy"], "None");
    assert!(has(&spec["volumeLifecycleModes"], "Persistent") && has(&spec["volumeLifecycleModes"], "Ephemeral"));
}

#[test]
#[ignore = "needs helm"]
fn the_store_is_a_claim_unless_it_is_said_to_be_ephemeral() {
    let objects = template(&[]).unwrap();
    find(&objects, "PersistentVolumeClaim", "granary-store");
    let operator = find(&objects, "Deployment", "granary-operator");
    assert_eq!(volume(operator, "store")["persistentVolumeClaim"]["claimName"], "granary-store");

    let objects = template(&["imageStore.ephemeral=true"]).unwrap();
    assert!(objects.iter().all(|object| object["kind"] != "PersistentVolumeClaim"));
    let operator = find(&objects, "Deployment", "granary-operator");
    assert!(volume(operator, "store")["emptyDir"].is_object());

    let objects = template(&["imageStore.existingClaim=mine"]).unwrap();
    assert!(objects.iter().all(|object| object["kind"] != "PersistentVolumeClaim"));
    let operator = find(&objects, "Deployment", "granary-operator");
    assert_eq!(volume(operator, "store")["persistentVolumeClaim"]["claimName"], "mine");
}

#[test]
#[ignore = "needs helm"]
fn file_roots_reach_operator_and_nodes_read_only() {
    let objects = template(&["fileSources.roots={/srv/data,/mnt/more}"]).unwrap();
    let node = find(&objects, "DaemonSet", "granary-node");
    for root in ["/srv/data", "/mnt/more"] {
        for object in [node, find(&objects, "Deployment", "granary-operator")] {
            assert!(has(&container(object)["args"], &format!("--file-root={root}")));
        }
        let mounts = container(node)["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == root).unwrap();
        assert_eq!(mount["readOnly"], true);
        assert_eq!(volume(node, mount["name"].as_str().unwrap())["hostPath"]["path"], root);
    }
}

#[test]
#[ignore = "needs helm"]
fn directories_and_image_can_be_chosen() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let objects = template(&[
        "kubeletDir=/data/kubelet",
        "cacheRoot=/fast",
        "image.registry=registry.example.com",
        "image.repository=a/b",
        "image.tag=ignored",
        &format!("image.digest={digest}"),
    ])
    .unwrap();
    let node = find(&objects, "DaemonSet", "granary-node");
    assert_eq!(container(node)["image"], format!("registry.example.com/a/b@{digest}"));
    assert!(has(&container(node)["args"], "--kubelet-dir=/data/kubelet"));
    assert!(has(&container(node)["args"], "--cache-root=/fast"));
    assert_eq!(volume(node, "kubelet")["hostPath"]["path"], "/data/kubelet");
    assert_eq!(volume(node, "cache")["hostPath"]["path"], "/fast");
}

#[test]
#[ignore = "needs helm"]
fn the_default_class_is_one_that_the_api_accepts() {
    let class = |set: &[&str]| -> granary_crds::DataStorageClass {
        let objects = template(set).unwrap();
        let text =
            find(&objects, "ConfigMap", "granary-default-class")["data"]["class.json"].as_str().unwrap().to_owned();
        serde_json::from_str(&text).unwrap()
    };
    let plain = class(&[]);
    assert_eq!(plain.metadata.name.as_deref(), Some(granary_crds::names::DEFAULT_STORAGE_CLASS));
    assert_eq!(plain.spec, granary_crds::DataStorageClassSpec::default());
    let chosen = class(&["defaultClass.cache.maxSize=64Mi", "defaultClass.sourcePolicy.allowedNetworks={127.0.0.0/8}"]);
    assert_eq!(chosen.spec.cache.max_size.clone().unwrap().0, "64Mi");
    kube::core::cel::validate_cel(&chosen).unwrap();
}

#[test]
#[ignore = "needs helm"]
fn a_value_that_does_nothing_or_makes_no_sense_is_refused() {
    for (value, named) in [
        ("operater.resources=x", "operater"),
        ("imageStore.size=big", "/imageStore/size"),
        ("kubeletDir=relative", "/kubeletDir"),
        ("log.level=loud", "/log/level"),
        ("node.layout=EROFS", "/node/layout"),
        ("fileSources.roots={data}", "/fileSources/roots"),
        ("defaultClass.cache.minFreePercent=99", "minFreePercent"),
    ] {
        let refusal = template(&[value]).unwrap_err().to_string();
        assert!(refusal.contains(named), "{value}: {refusal}");
    }
}
