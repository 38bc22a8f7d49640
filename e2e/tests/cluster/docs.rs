//! What the documents tell a user to type works.

use std::path::{Path, PathBuf};

use granary_e2e::exec;
use granary_e2e::paths::checkout;

use crate::lab::{Space, lab};

/// Texts of all fenced blocks of a language in a Markdown file.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap().into_path());
    entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

#[test]
#[ignore = "needs the cluster"]
fn every_manifest_of_the_documents_is_accepted() {
    let root = checkout();
    let mut manifests = Vec::new();
    for path in files(&root.join("docs"), "md").into_iter().chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        manifests.extend(blocks(&text, "yaml").into_iter().map(|yaml| (path.clone(), yaml)));
    }
    for path in files(&root.join("charts/granary/examples"), "yaml") {
        manifests.push((path.clone(), std::fs::read_to_string(path).unwrap()));
    }
    assert!(manifests.len() > 8, "the documents have more manifests than the {} found", manifests.len());
    let space = Space::new("docs");
    space.kubectl(&["delete", "secret", "s3-read"]).unwrap();
    let mut wrong = Vec::new();
    for (path, yaml) in manifests {
        // Namespaces of the examples do not exist here; what is checked are the objects.
        let yaml = ["vision", "team-b"].iter().fold(yaml, |yaml, name| {
            yaml.replace(&format!("namespace: {name}"), &format!("namespace: {}", space.name))
        });
        let mut command = lab().kubectl.command();
        command.args(["create", "--dry-run=server", "-n", &space.name, "--filename", "-"]);
        if let Err(error) = exec::with_input(&mut command, yaml.as_bytes()) {
            wrong.push(format!("{}: {error:#}\n{yaml}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
