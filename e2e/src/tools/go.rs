//! Go programs from their modules, through Go's ordinary client: a generated `go.mod` that requires the module, then `go build`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::recipes::GoTool;
use crate::paths::{Paths, write_atomically};
use crate::{exec, progress};

/// The directory with the tool's programs, built if they are not there yet.
pub fn ensure(paths: &Paths, tool: &GoTool) -> Result<PathBuf> {
    ensure_with(paths, tool, "")
}

/// The same for a module that says too little about what it needs: `lines` are added to the generated `go.mod`.
pub fn ensure_with(paths: &Paths, tool: &GoTool, lines: &str) -> Result<PathBuf> {
    let bin = keyed_dir(paths, tool, lines);
    if bin.is_dir() {
        return Ok(bin);
    }
    let step = progress::step(format!("building {} {}", tool.name, tool.version), Some(tool.usually));
    build(paths, tool, lines, &bin)
        .with_context(|| format!("building {} {} from its Go module", tool.name, tool.version))?;
    step.done();
    Ok(bin)
}

/// Where the programs of `tool` lie; the name has a hash of everything that decides what they are.
pub fn bin_dir(paths: &Paths, tool: &GoTool) -> PathBuf {
    keyed_dir(paths, tool, "")
}

fn keyed_dir(paths: &Paths, tool: &GoTool, lines: &str) -> PathBuf {
    let what = GoTool { usually: "", ..*tool };
    let key = hex::encode(Sha256::digest(format!("{what:?}{lines}")));
    paths.cache.join("tools").join(format!("{}-{}-{}", tool.name, tool.version, &key[..12])).join("bin")
}

fn build(paths: &Paths, tool: &GoTool, lines: &str, bin: &Path) -> Result<()> {
    let dir = bin.parent().context("a tool's directory has a parent")?;
    let (module, partial) = (dir.join("module"), dir.join("partial"));
    // What a killed build left is worth nothing: Go's own cache has the compiled packages.
    for stale in [&module, &partial] {
        if stale.exists() {
            std::fs::remove_dir_all(stale).with_context(|| format!("removing {}", stale.display()))?;
        }
    }
    let staging = match tool.staging {
        Some(_) => replaced_modules(&std::fs::read_to_string(download(tool)?).context("reading the module's go.mod")?),
        None => Vec::new(),
    };
    write_atomically(&module.join("go.mod"), go_mod(tool, &staging) + lines)?;
    let log = paths.cache.join("log").join(format!("build-{}.log", tool.name));
    let mut command = Command::new("nice");
    command.args(["go", "build", "-mod=mod", "-trimpath", "-buildvcs=false", "-p", "2"]);
    command.args(["-ldflags", &format!("-s -w {}", tool.ldflags), "-tags", tool.tags, "-o"]);
    command
        .arg(format!("{}/", partial.display()))
        .args(tool.programs.iter().map(|(package, _)| package_path(tool, package)));
    command
        .current_dir(&module)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", if tool.cgo { "1" } else { "0" });
    exec::logged(&mut command, &log)?;
    for (package, program) in tool.programs {
        let built = go_binary_name(&package_path(tool, package)).to_owned();
        if built != *program {
            std::fs::rename(partial.join(&built), partial.join(program))
                .with_context(|| format!("naming {program}"))?;
        }
    }
    std::fs::rename(&partial, bin).with_context(|| format!("moving the built programs to {}", bin.display()))
}

/// Downloads the module and returns the path of its `go.mod`.
fn download(tool: &GoTool) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Downloaded {
        #[serde(rename = "GoMod")]
        go_mod: PathBuf,
    }
    let mut command = Command::new("go");
    command
        .args(["mod", "download", "-json", &format!("{}@{}", tool.module, tool.version)])
        .env("GOTOOLCHAIN", "local");
    let said = exec::output(command.current_dir("/").env("GOFLAGS", ""))?;
    Ok(serde_json::from_str::<Downloaded>(&said).context("reading what `go mod download` says")?.go_mod)
}

/// The modules that a `go.mod` replaces by directories below it.
fn replaced_modules(go_mod: &str) -> Vec<String> {
    go_mod
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("replace ").split_once(" => ./"))
        .map(|(module, _)| module.trim().to_owned())
        .collect()
}

fn go_mod(tool: &GoTool, staging: &[String]) -> String {
    let mut text =
        format!("module granary.dev/e2e/{}\n\ngo 1.26.0\n\nrequire {} {}\n", tool.name, tool.module, tool.version);
    for module in staging {
        let version = tool.staging.unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(text, "\nreplace {module} => {module} {version}\n");
    }
    text
}

fn package_path(tool: &GoTool, package: &str) -> String {
    if package.is_empty() { tool.module.to_owned() } else { format!("{}/{package}", tool.module) }
}

/// The name that `go build` gives the program of a package: its last element that is no major version.
fn go_binary_name(package: &str) -> &str {
    let is_version =
        |word: &str| word.len() > 1 && word.starts_with('v') && word[1..].bytes().all(|b| b.is_ascii_digit());
    package.rsplit('/').find(|word| !is_version(word)).unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::super::recipes;
    use super::*;

    #[test]
    fn the_programs_go_by_gos_own_naming() {
        assert_eq!(go_binary_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(go_binary_name("github.com/opencontainers/runc"), "runc");
        assert_eq!(go_binary_name("helm.sh/helm/v4/cmd/helm"), "helm");
    }

    #[test]
    fn staging_modules_are_found_in_blocks_and_lines() {
        let text =
            "replace a.b/c => ./staging/c\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tx => y v1.2.3\n)\n";
        assert_eq!(replaced_modules(text), ["a.b/c", "k8s.io/api"]);
        assert!(
            go_mod(&recipes::KUBERNETES, &["k8s.io/api".into()])
                .ends_with("replace k8s.io/api => k8s.io/api v0.36.3\n")
        );
    }

    #[test]
    fn the_key_changes_with_every_flag() {
        let paths = Paths { cache: "/c".into(), state: "/s".into() };
        let other = GoTool { tags: "x", ..recipes::ETCD };
        assert_ne!(bin_dir(&paths, &recipes::ETCD), bin_dir(&paths, &other));
        assert!(bin_dir(&paths, &recipes::ETCD).starts_with("/c/tools"));
        let slower = GoTool { usually: "hours", ..recipes::ETCD };
        assert_eq!(bin_dir(&paths, &recipes::ETCD), bin_dir(&paths, &slower));
    }
}
