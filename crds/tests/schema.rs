//! Habits of the API that a new field could break, checked over every field of every kind.

use granary_crds::schema::crds;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};

/// Calls `see` with the path of each field, whether it is inside of a list, and its schema.
fn walk(path: &str, in_list: bool, schema: &JSONSchemaProps, see: &mut impl FnMut(&str, bool, &JSONSchemaProps)) {
    see(path, in_list, schema);
    for (name, field) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), in_list, field, see);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        walk(&format!("{path}[]"), true, item, see);
    }
}

fn each_field(mut see: impl FnMut(&str, bool, &JSONSchemaProps)) {
    for crd in crds() {
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            walk(&crd.spec.names.kind, false, schema, &mut see);
        }
    }
}

#[test]
fn every_list_is_bounded_and_has_a_type() {
    each_field(|path, _, schema| {
        if schema.items.is_some() {
            assert!(schema.max_items.is_some(), "{path} has no upper bound");
            assert!(schema.x_kubernetes_list_type.is_some(), "{path} has no list type");
        }
    });
}

#[test]
fn list_items_have_no_defaults() {
    each_field(|path, in_list, schema| {
        assert!(!in_list || schema.default.is_none(), "{path}: a GitOps tool would show it as changed for ever");
    });
}

#[test]
fn every_spec_string_is_bounded() {
    each_field(|path, _, schema| {
        let plain = schema.type_.as_deref() == Some("string") && schema.format.is_none() && schema.enum_.is_none();
        if plain && path.contains(".spec") {
            assert!(schema.max_length.is_some(), "{path} has no upper bound");
        }
    });
}

/// An enum could grow, a boolean cannot: so each is one that says yes or no to a thing that is there or is not.
const BOOLEANS: [&str; 1] = ["Dataset.spec.preload"];

#[test]
fn there_are_no_floats_or_nulls_and_no_further_booleans() {
    each_field(|path, _, schema| {
        assert!(schema.type_.as_deref() != Some("number"), "{path}");
        assert_eq!(schema.type_.as_deref() == Some("boolean"), BOOLEANS.contains(&path), "{path}");
        assert_eq!(schema.nullable, None, "{path}");
    });
}

#[test]
fn every_field_is_described() {
    each_field(|path, _, schema| {
        assert!(path.ends_with("[]") || schema.description.is_some(), "{path}");
    });
}

#[test]
fn values_that_readers_tolerate_are_not_offered() {
    each_field(|path, _, schema| {
        let unknown = schema.enum_.iter().flatten().any(|value| value.0 == "Unknown");
        assert!(!unknown, "{path}");
    });
}

#[test]
fn every_kind_has_category_short_name_and_status() {
    let shorts: Vec<_> = crds()
        .iter()
        .map(|crd| {
            assert_eq!(crd.spec.names.categories.as_deref(), Some(&["granary".to_owned()][..]));
            assert!(crd.spec.versions[0].subresources.as_ref().unwrap().status.is_some());
            crd.spec.names.short_names.clone().unwrap().join(",")
        })
        .collect();
    assert_eq!(shorts, ["dset", "dsv", "dsg", "dsc", "ndc"]);
}
