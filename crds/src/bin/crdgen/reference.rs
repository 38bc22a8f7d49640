//! A page of the documentation for each kind.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// The page: what the kind is, then every field of it in the order of the schema.
pub(crate) fn page(crd: &CustomResourceDefinition) -> String {
    let names = &crd.spec.names;
    let mut page = format!("# {}\n\n", names.kind);
    page +=
        "<!-- Generated from the types in crds/src by `cargo run -p granary-crds --bin crdgen`. Do not edit. -->\n\n";
    for version in &crd.spec.versions {
        let Some(schema) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) else {
            continue;
        };
        let scope = if crd.spec.scope == "Namespaced" { "in a namespace" } else { "of the cluster" };
        let shorts = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(page, "{}\n", schema.description.as_deref().unwrap_or_default());
        let _ = writeln!(
            page,
            "`apiVersion: {}/{}`, {scope}; `kubectl get {}`, short {shorts}.\n",
            crd.spec.group, version.name, names.plural
        );
        rules(&mut page, "metadata", schema);
        for (name, part) in schema.properties.iter().flatten() {
            let _ = writeln!(page, "## {name}\n\n| field | type | required or default | |\n|---|---|---|---|");
            fields(&mut page, name, part);
            page.push('\n');
            rules(&mut page, name, part);
        }
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn fields(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let path = format!("{path}.{name}");
        let need = match &field.default {
            Some(default) => format!("`{}`", default.0),
            None if required => "required".to_owned(),
            None => String::new(),
        };
        let text = escape(field.description.as_deref().unwrap_or_default());
        let limits = limits(field);
        let _ = writeln!(page, "| `{path}` | {} | {} | {text}{limits} |", type_name(field), escape(&need));
        fields(page, &path, field);
        if let Some(item) = item(field) {
            fields(page, &format!("{path}[]"), item);
        }
    }
}

/// What the API server says when something that the types do not tell is wrong, for this part and everything below.
fn rules(page: &mut String, root: &str, schema: &JSONSchemaProps) {
    let mut lines = Vec::new();
    if root == "metadata" {
        own_rules(&mut lines, "object", schema);
    } else {
        all_rules(&mut lines, root, schema);
    }
    if !lines.is_empty() {
        let _ = writeln!(page, "Checked by the API server:\n\n{}\n", lines.join("\n"));
    }
}

fn own_rules(lines: &mut Vec<String>, path: &str, schema: &JSONSchemaProps) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let path = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
        lines.push(format!("- `{path}`: {}", escape_text(rule.message.as_deref().unwrap_or(&rule.rule))));
    }
}

fn all_rules(lines: &mut Vec<String>, path: &str, schema: &JSONSchemaProps) {
    own_rules(lines, path, schema);
    for (name, field) in schema.properties.iter().flatten() {
        all_rules(lines, &format!("{path}.{name}"), field);
    }
    if let Some(item) = item(schema) {
        all_rules(lines, &format!("{path}[]"), item);
    }
}

fn item(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item),
        _ => None,
    }
}

fn type_name(schema: &JSONSchemaProps) -> String {
    if schema.x_kubernetes_int_or_string == Some(true) {
        return "Quantity".to_owned();
    }
    if let Some(item) = item(schema) {
        return match schema.x_kubernetes_list_map_keys.as_deref() {
            Some([key]) => format!("list of {}, by `{key}`", type_name(item)),
            _ => format!("list of {}", type_name(item)),
        };
    }
    match (schema.type_.as_deref(), schema.format.as_deref()) {
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some("integer"), Some(format)) => format.to_owned(),
        (other, _) => other.unwrap_or("any").to_owned(),
    }
}

fn limits(schema: &JSONSchemaProps) -> String {
    let mut limits = Vec::new();
    if let Some(values) = &schema.enum_ {
        let values: Vec<String> =
            values.iter().map(|value| format!("`{}`", value.0.as_str().unwrap_or_default())).collect();
        limits.push(values.join(", "));
    }
    let mut range = |from: Option<String>, to: Option<String>, unit: &str| match (from, to) {
        (Some(from), Some(to)) => limits.push(format!("{from} to {to}{unit}")),
        (Some(from), None) => limits.push(format!("at least {from}{unit}")),
        (None, Some(to)) => limits.push(format!("at most {to}{unit}")),
        (None, None) => {}
    };
    range(schema.minimum.map(|n| n.to_string()), schema.maximum.map(|n| n.to_string()), "");
    range(schema.min_length.map(|n| n.to_string()), schema.max_length.map(|n| n.to_string()), " characters");
    range(schema.min_items.map(|n| n.to_string()), schema.max_items.map(|n| n.to_string()), " items");
    if let Some(pattern) = &schema.pattern {
        limits.push(format!("`{}`", escape(pattern)));
    }
    if limits.is_empty() { String::new() } else { format!(" ({})", limits.join("; ")) }
}

/// Text that a cell of a table can hold.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace("\n\n", " ")
}

/// Text outside of code: `<host>` is no HTML.
fn escape_text(text: &str) -> String {
    text.replace('<', "\\<")
}
