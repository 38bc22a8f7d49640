//! What `kubectl apply` refuses, and with which words.

use crate::lab::lab;

fn dataset(spec: &str) -> String {
    format!(
        "apiVersion: granary.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: x, namespace: default}}\nspec: {spec}\n"
    )
}

fn class(spec: &str) -> String {
    format!("apiVersion: granary.dev/v1alpha1\nkind: DataStorageClass\nmetadata: {{name: x}}\nspec: {spec}\n")
}

fn grant(spec: &str) -> String {
    format!(
        "apiVersion: granary.dev/v1alpha1\nkind: DatasetGrant\nmetadata: {{name: x, namespace: default}}\nspec: {spec}\n"
    )
}

/// Applies on the server without storing, and returns what it said.
fn refusal(yaml: &str) -> String {
    let kubectl = &lab().kubectl;
    let mut command = kubectl.command();
    command.args(["create", "--dry-run=server", "--filename", "-"]);
    match granary_e2e::exec::with_input(&mut command, yaml.as_bytes()) {
        Ok(said) => panic!("the API server accepted\n{yaml}\n{said}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
#[ignore = "needs the cluster"]
fn mistakes_are_refused_with_a_sentence_that_says_what_to_write() {
    let cases = [
        (
            dataset(r#"{sources: [{uri: "s3://key:geheim@bucket/"}]}"#),
            "must not contain credentials: put them into a Secret",
        ),
        (dataset(r#"{sources: [{uri: "https://host/file?sig=geheim"}]}"#), "a signed URL is a credential"),
        (dataset(r#"{sources: [{uri: "gopher://host/x"}]}"#), "must start with 's3://<bucket>'"),
        (dataset(r#"{sources: [{uri: "s3://b/", path: "../up"}]}"#), "must be a relative path such as 'train/images'"),
        (dataset(r#"{sources: [{uri: "s3://b/", path: "/abs"}]}"#), "must be a relative path such as 'train/images'"),
        (
            dataset(r#"{sources: [{uri: "s3://b/", path: a}, {uri: "s3://c/", path: a/b}]}"#),
            "no `path` may lie inside another",
        ),
        (dataset(r#"{sources: [{uri: "s3://b/"}, {uri: "s3://c/"}]}"#), "each must have its own `path`"),
        (dataset(r#"{sources: []}"#), "should have at least 1 items"),
        (dataset(r#"{sources: [{uri: "file:///d", s3: {region: eu}}]}"#), "`s3` may only be specified"),
        (
            dataset(r#"{sources: [{uri: "s3://b/", s3: {endpoint: "http://user@host"}}]}"#),
            "without path or credentials",
        ),
        (dataset(r#"{sources: [{uri: "s3://b/"}], pin: {}}"#), "exactly one of `version` and `digest`"),
        (dataset(r#"{sources: [{uri: "s3://b/"}], credentials: {}}"#), "must have `secretRef`"),
        (
            dataset(r#"{sources: [{uri: "s3://b/"}], refresh: {periodSeconds: 1}}"#),
            "should be greater than or equal to 60",
        ),
        (class("{cache: {maxSize: 1Mi}}"), "must be at least 64Mi"),
        (class("{cache: {minFree: -1Gi}}"), "must be greater than or equal to 0"),
        (class("{cache: {minFreePercent: 99}}"), "should be less than or equal to 90"),
        (class("{sourcePolicy: {allowedNetworks: [everything]}}"), "must be a network such as '10.0.0.0/8'"),
        (grant("{datasetRef: {name: x}, subjects: []}"), "should have at least 1 items"),
        (
            grant("{datasetRef: {name: x}, subjects: [{kind: ServiceAccount, name: x}]}"),
            "a ServiceAccount must have `namespace`",
        ),
    ];
    for (yaml, sentence) in cases {
        let said = refusal(&yaml);
        assert!(said.contains(sentence), "'{sentence}' is not in the refusal of\n{yaml}\n{said}");
        let answer = said.rsplit_once("):\n").map_or(said.as_str(), |(_, answer)| answer);
        assert!(!answer.contains("geheim"), "the refusal repeats a credential: {answer}");
    }
}

#[test]
#[ignore = "needs the cluster"]
fn a_claim_whose_annotation_names_no_dataset_is_refused() {
    let yaml = crate::lab::claim_yaml("default", "x", "a/b/c");
    assert!(refusal(&yaml).contains("granary.dev/dataset"));
}

#[test]
#[ignore = "needs the cluster"]
fn every_kind_explains_itself_and_has_its_short_name() {
    let kubectl = &lab().kubectl;
    for (short, kind) in [
        ("dset", "Dataset"),
        ("dsv", "DatasetVersion"),
        ("dsc", "DataStorageClass"),
        ("dsg", "DatasetGrant"),
        ("ndc", "NodeCache"),
    ] {
        assert!(kubectl.run(["explain", short]).unwrap().contains(kind), "{short}");
    }
    assert!(kubectl.run(["explain", "dataset.spec.sources.uri"]).unwrap().contains("s3://"));
    let known = kubectl.run(["api-resources", "--categories=granary", "-o", "name"]).unwrap();
    assert_eq!(known.lines().count(), 5, "{known}");
}
