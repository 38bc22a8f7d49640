//! `granary index`.

use std::fs;
use std::process::Command;

fn granary(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_granary")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn prints_what_a_version_would_contain() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/one"), "1").unwrap();
    fs::write(dir.path().join("two"), "22").unwrap();
    let uri = format!("file://{}/", dir.path().display());
    let (ok, text, _) = granary(&["index", &uri, "--files"]);
    assert!(ok && text.contains("files:    2 (3 B)") && text.contains("1 a/one") && text.contains("2 two"), "{text}");

    let (ok, text, _) = granary(&["index", &uri, "--output", "json", "--exclude", "two"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(ok);
    assert_eq!((json["fileCount"].as_u64(), json["sizeBytes"].as_u64()), (Some(1), Some(1)));
    assert!(json["imageDigest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(json["sources"][0]["uri"], uri.as_str());
}

#[test]
fn errors_are_sentences() {
    let (ok, _, error) = granary(&["index", "ftp://host/"]);
    assert!(!ok && error.starts_with("granary: ") && error.contains("s3://"), "{error}");
    let (ok, _, error) = granary(&["index", "file:///nowhere/at/all/"]);
    assert!(!ok && error.contains("/nowhere/at/all"), "{error}");
}
