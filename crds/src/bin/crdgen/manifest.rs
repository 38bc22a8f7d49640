//! CRDs as YAML.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

const HEADER: &str =
    "# Generated from the types in crds/src by `cargo run -p granary-crds --bin crdgen`. Do not edit.\n";

/// The manifest that `kubectl apply` takes.
pub(crate) fn yaml(crd: &CustomResourceDefinition) -> String {
    let value = serde_json::to_value(crd).expect("a CRD is JSON");
    let yaml = serde_norway::to_string(&canonical(&value)).expect("JSON is YAML");
    format!("{HEADER}{yaml}")
}

/// The chart's copy: templated, so that an upgrade upgrades it, and kept, so that an uninstall keeps users' objects.
pub(crate) fn templated(manifest: &str) -> String {
    assert!(!manifest.contains("{{"), "a description would be taken for a template");
    let metadata = "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n  labels:\n    {{- include \"granary.labels\" . | nindent 4 }}\n";
    let (header, body) = manifest.split_at(HEADER.len());
    let body = body.replacen("metadata:\n", metadata, 1);
    format!("{header}{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n")
}

/// Keys in alphabetical order whatever the features of serde_json, and whole numbers written as such.
fn canonical(value: &Value) -> serde_norway::Value {
    use serde_norway::Value as Yaml;
    match value {
        Value::Null => Yaml::Null,
        Value::Bool(flag) => Yaml::Bool(*flag),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 => Yaml::Number((float as i64).into()),
            _ => number.as_i64().map_or(Yaml::Null, |integer| Yaml::Number(integer.into())),
        },
        Value::String(text) => Yaml::String(text.clone()),
        Value::Array(items) => Yaml::Sequence(items.iter().map(canonical).collect()),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            Yaml::Mapping(
                members.into_iter().map(|(key, value)| (Yaml::String(key.clone()), canonical(value))).collect(),
            )
        }
    }
}
