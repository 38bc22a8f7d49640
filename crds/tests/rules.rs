//! Every CEL rule of the API: what it accepts, and the sentence with which it refuses. The API server's own evaluation is tested on the
//! real cluster; this is quick.

use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion};
use kube::CustomResourceExt;
use kube::core::cel::{validate_cel, validate_cel_update};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn accepts<T: CustomResourceExt + Serialize + DeserializeOwned>(object: Value) {
    if let Err(errors) = validate_cel(&read::<T>(object.clone())) {
        panic!("{object} was refused: {errors}");
    }
}

#[track_caller]
fn refuses<T: CustomResourceExt + Serialize + DeserializeOwned>(object: Value, sentence: &str) {
    match validate_cel(&read::<T>(object.clone())) {
        Ok(()) => panic!("{object} was accepted"),
        Err(errors) => assert!(errors.to_string().contains(sentence), "{object}: {errors}"),
    }
}

#[track_caller]
fn update<T: CustomResourceExt + Serialize + DeserializeOwned>(old: &Value, new: &Value) -> Result<(), String> {
    validate_cel_update(&read::<T>(new.clone()), &read::<T>(old.clone())).map_err(|errors| errors.to_string())
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "granary.dev/v1alpha1", "kind": kind, "metadata": {"name": "x", "namespace": "n"}, "spec": spec})
}

fn dataset(sources: Value) -> Value {
    object("Dataset", json!({"sources": sources}))
}

fn class(spec: Value) -> Value {
    object("DataStorageClass", spec)
}

fn grant(subject: Value) -> Value {
    object("DatasetGrant", json!({"datasetRef": {"name": "d"}, "subjects": [subject]}))
}

#[test]
fn r1_name() {
    let named = |name: &str| {
        let mut object = dataset(json!([{"uri": "s3://b/"}]));
        object["metadata"]["name"] = name.into();
        object
    };
    accepts::<Dataset>(named(&"a".repeat(52)));
    for name in ["a".repeat(53).as_str(), "a.b", "-a"] {
        refuses::<Dataset>(named(name), "must have at most 52 lower-case letters");
    }
}

#[test]
fn r2_separate_paths() {
    let paths = |paths: &[Option<&str>]| {
        let source = |path: &Option<&str>| match path {
            Some(path) => json!({"uri": "s3://b/", "path": path}),
            None => json!({"uri": "s3://b/"}),
        };
        dataset(paths.iter().map(source).collect())
    };
    accepts::<Dataset>(paths(&[None]));
    accepts::<Dataset>(paths(&[Some("train"), Some("labels"), Some("trainer"), Some("x/a"), Some("x/b")]));
    for overlapping in [[None, Some("a")], [None, None], [Some("a"), Some("a")], [Some("a/b"), Some("a")]] {
        refuses::<Dataset>(paths(&overlapping), "each must have its own `path`");
    }
}

#[test]
fn r3_different_names() {
    let names = |a: &str, b: &str| {
        dataset(
            json!([{"uri": "s3://b/", "path": "a", "name": a}, {"uri": "s3://b/", "path": "b", "name": b}, {"uri": "s3://b/", "path": "c"}]),
        )
    };
    accepts::<Dataset>(names("a", "b"));
    refuses::<Dataset>(names("a", "a"), "each `name` must be different");
}

#[test]
fn r4_to_r6_uri() {
    for uri in
        ["s3://bucket", "s3://bucket/a?b#c/", "https://h/d/", "http://h/f", "file:///data", "s3://bucket/user@host/"]
    {
        accepts::<Dataset>(dataset(json!([{"uri": uri}])));
    }
    for uri in ["s3:///x", "gs://b/", "bucket/", "file://host/x", "https:///x", "S3://b/"] {
        refuses::<Dataset>(dataset(json!([{"uri": uri}])), "must start with 's3://<bucket>'");
    }
    for uri in ["s3://key:secret@bucket/", "https://user@host/x"] {
        refuses::<Dataset>(dataset(json!([{"uri": uri}])), "must not contain credentials");
    }
    for uri in ["https://h/f?sig=1", "http://h/d/#x"] {
        refuses::<Dataset>(dataset(json!([{"uri": uri}])), "a signed URL is a credential");
    }
}

#[test]
fn r4_to_r6_name_the_field_and_not_its_value() {
    let crd = serde_json::to_value(Dataset::crd()).unwrap();
    let source = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["sources"]
        ["items"];
    let paths: Vec<_> =
        source["x-kubernetes-validations"].as_array().unwrap().iter().map(|rule| &rule["fieldPath"]).collect();
    assert_eq!(paths[..3], [".uri", ".uri", ".uri"]);
    assert!(source["properties"]["uri"].get("x-kubernetes-validations").is_none());
    assert!(source["properties"]["uri"].get("pattern").is_none(), "a pattern's message shows the value");
}

#[test]
fn r7_relative_path() {
    for path in ["a", "a/b", ".a", "..a", "...", "a/.b/..c", "a b/é"] {
        accepts::<Dataset>(dataset(json!([{"uri": "s3://b/", "path": path}])));
        accepts::<DataStorageClass>(class(json!({"cache": {"path": path}})));
    }
    for path in ["/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.."] {
        refuses::<Dataset>(dataset(json!([{"uri": "s3://b/", "path": path}])), "must be a relative path");
        refuses::<DataStorageClass>(class(json!({"cache": {"path": path}})), "must be a relative path");
    }
}

#[test]
fn r8_to_r10_options() {
    let files = json!({"files": [{"path": "a"}]});
    accepts::<Dataset>(dataset(
        json!([{"uri": "s3://b/", "identity": "Ambient", "s3": {"endpoint": "http://127.0.0.1:9000"}}]),
    ));
    accepts::<Dataset>(dataset(json!([{"uri": "https://h/d/", "http": files}])));
    for (source, sentence) in [
        (json!({"uri": "file:///d", "identity": "Anonymous"}), "`identity` may not be specified"),
        (json!({"uri": "https://h/d/", "s3": {}}), "`s3` may only be specified"),
        (json!({"uri": "s3://b/", "http": files}), "`http` may only be specified"),
        (json!({"uri": "https://h/file", "http": files}), "`http` may only be specified"),
        (json!({"uri": "s3://b/", "s3": {"endpoint": "minio:9000"}}), "without path or credentials"),
        (json!({"uri": "s3://b/", "s3": {"endpoint": "http://u:p@minio"}}), "without path or credentials"),
        (json!({"uri": "s3://b/", "s3": {"endpoint": "http://minio/bucket"}}), "without path or credentials"),
    ] {
        refuses::<Dataset>(dataset(json!([source])), sentence);
    }
}

#[test]
fn r11_and_r15_unions() {
    let with = |name: &str, value: Value| object("Dataset", json!({"sources": [{"uri": "s3://b/"}], name: value}));
    accepts::<Dataset>(with("credentials", json!({"secretRef": {"name": "s"}})));
    refuses::<Dataset>(with("credentials", json!({})), "must have `secretRef`");
    let digest = format!("sha256:{}", "0".repeat(64));
    accepts::<Dataset>(with("pin", json!({"version": "x-1"})));
    accepts::<Dataset>(with("pin", json!({"digest": digest})));
    refuses::<Dataset>(with("pin", json!({})), "exactly one of `version` and `digest`");
    refuses::<Dataset>(
        with("pin", json!({"version": "x-1", "digest": digest})),
        "exactly one of `version` and `digest`",
    );
}

#[test]
fn r12_secret_is_fixed_by_the_claim() {
    let with = |secret: Option<&str>, claimed: bool| {
        let mut object = dataset(json!([{"uri": "s3://b/"}]));
        if let Some(secret) = secret {
            object["spec"]["credentials"] = json!({"secretRef": {"name": secret}});
        }
        if claimed {
            object["status"] = json!({"claim": {"name": "x", "uid": "u"}});
        }
        object
    };
    assert_eq!(update::<Dataset>(&with(Some("a"), false), &with(Some("b"), false)), Ok(()));
    assert_eq!(update::<Dataset>(&with(Some("a"), true), &with(Some("a"), true)), Ok(()));
    for changed in [Some("b"), None] {
        let refusal = update::<Dataset>(&with(Some("a"), true), &with(changed, true)).unwrap_err();
        assert!(refusal.contains("put the new keys into the same Secret"), "{refusal}");
    }
}

#[test]
fn r13_and_r16_and_r17_and_r20_fixed() {
    let old = dataset(json!([{"uri": "s3://b/"}]));
    let mut new = old.clone();
    new["spec"]["storageClassName"] = "other".into();
    assert!(update::<Dataset>(&old, &new).unwrap_err().contains("create another Dataset for another class"));

    let old = version();
    let mut new = old.clone();
    new["status"] = json!({"observedGeneration": 1});
    assert_eq!(update::<DatasetVersion>(&old, &new), Ok(()));
    new["spec"]["artifacts"][0]["sizeBytes"] = 2.into();
    assert!(update::<DatasetVersion>(&old, &new).unwrap_err().contains("a version is immutable"));

    let old = class(json!({"cache": {"maxSize": "1Gi"}}));
    assert_eq!(update::<DataStorageClass>(&old, &class(json!({"cache": {"maxSize": "2Gi"}}))), Ok(()));
    let refusal = update::<DataStorageClass>(&old, &class(json!({"cache": {"path": "a"}}))).unwrap_err();
    assert!(refusal.contains("create another class"), "{refusal}");

    let old = grant(json!({"kind": "Namespace", "name": "a"}));
    let mut new = old.clone();
    new["spec"]["subjects"][0]["name"] = "b".into();
    assert_eq!(update::<DatasetGrant>(&old, &new), Ok(()));
    new["spec"]["datasetRef"]["name"] = "other".into();
    assert!(update::<DatasetGrant>(&old, &new).unwrap_err().contains("create another grant"));
}

#[test]
fn r18_and_r19_class() {
    accepts::<DataStorageClass>(class(json!({})));
    accepts::<DataStorageClass>(class(json!({"cache": {"maxSize": "64Mi", "minFree": "20Gi"}})));
    accepts::<DataStorageClass>(class(
        json!({"sourcePolicy": {"allowedNetworks": ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"]}}),
    ));
    refuses::<DataStorageClass>(class(json!({"cache": {"maxSize": "1Mi"}})), "must be at least 64Mi");
    refuses::<DataStorageClass>(class(json!({"cache": {"minFree": "-1"}})), "greater than or equal to 0");
    refuses::<DataStorageClass>(
        class(json!({"sourcePolicy": {"allowedNetworks": ["10.0.0.1"]}})),
        "must be a network such as",
    );
}

#[test]
fn r21_subjects() {
    accepts::<DatasetGrant>(grant(json!({"kind": "Namespace", "name": "a"})));
    accepts::<DatasetGrant>(grant(json!({"kind": "ServiceAccount", "name": "a", "namespace": "b"})));
    refuses::<DatasetGrant>(grant(json!({"kind": "Namespace", "name": "a", "namespace": "b"})), "a Namespace must not");
    refuses::<DatasetGrant>(grant(json!({"kind": "ServiceAccount", "name": "a"})), "must have `namespace`");
}

fn version() -> Value {
    let digest = format!("sha256:{}", "0".repeat(64));
    object(
        "DatasetVersion",
        json!({
            "datasetName": "x", "revision": 1, "listingDigest": digest, "fileCount": 1, "sizeBytes": 1,
            "blob": {"id": "b", "sizeBytes": 4096},
            "artifacts": [{"name": "image", "mediaType": "m", "digest": digest, "sizeBytes": 1}],
            "sources": [{"uri": "s3://b/", "fileCount": 1, "sizeBytes": 1, "pinnedBy": "ETag"}],
            "indexedTime": "2026-01-01T00:00:00Z", "indexerVersion": "0.1.0",
        }),
    )
}
