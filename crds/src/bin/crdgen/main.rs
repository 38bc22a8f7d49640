//! Writes what is generated from the API types: the CRD manifests, the chart's copy of them, and the reference pages.
//!
//! `crdgen` writes; `crdgen --check` compares, and fails with the names of the files that differ.

mod manifest;
mod reference;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

fn main() -> ExitCode {
    let check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: crdgen [--check]");
            return ExitCode::from(2);
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match run(&root, check) {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => {
            for path in stale {
                eprintln!("{} is stale: run `cargo run -p granary-crds --bin crdgen`", path.display());
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes all files, or returns those that differ.
fn run(root: &Path, check: bool) -> io::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for (path, text) in granary_crds::schema::crds().iter().flat_map(files) {
        let full = root.join(&path);
        if check {
            if fs::read_to_string(&full).ok().as_deref() != Some(text.as_str()) {
                stale.push(path);
            }
            continue;
        }
        if let Some(directory) = full.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(full, text)?;
    }
    Ok(stale)
}

/// The files that one kind makes, relative to the repository.
fn files(crd: &CustomResourceDefinition) -> [(PathBuf, String); 3] {
    let plural = &crd.spec.names.plural;
    let manifest = manifest::yaml(crd);
    [
        (format!("charts/granary/templates/crds/{plural}.yaml").into(), manifest::templated(&manifest)),
        (format!("crds/yaml/{plural}.yaml").into(), manifest),
        (format!("docs/reference/{}.md", crd.spec.names.kind.to_lowercase()).into(), reference::page(crd)),
    ]
}
