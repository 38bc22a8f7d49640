//! The chart's examples are what the API accepts.

use std::fs;
use std::path::Path;

use granary_crds::{Dataset, DatasetGrant};
use kube::core::cel::validate_cel;
use serde::Deserialize;
use serde_json::Value;

#[test]
fn examples_are_accepted() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/granary/examples");
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            let outcome = match object["kind"].as_str() {
                Some("Dataset") => validate_cel(&serde_json::from_value::<Dataset>(object).unwrap()),
                Some("DatasetGrant") => validate_cel(&serde_json::from_value::<DatasetGrant>(object).unwrap()),
                _ => continue,
            };
            assert!(outcome.is_ok(), "{}: {outcome:?}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}
