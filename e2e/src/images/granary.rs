//! Granary's own image: static binaries and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::oci::{Config, Entry, Image, Layer};
use crate::paths::{Paths, checkout};
use crate::{exec, progress};

/// The image's name, with the version of this checkout.
pub const REFERENCE: &str = concat!("granary.dev/granary:", env!("CARGO_PKG_VERSION"));

/// cargo's packages and the programs that they build. The Containerfile at the root of the checkout has the same list.
const PROGRAMS: &[(&str, &str)] =
    &[("granary", "granary"), ("granary-csi-driver", "granary-csi"), ("granary-operator", "granary-operator")];

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The built image.
#[derive(Debug, Clone)]
pub struct GranaryImage {
    /// Its OCI layout, for [`crate::cluster::Cluster::load_image`].
    pub tar: PathBuf,
    /// Digest of the tar: differs whenever the image does, so a rollout can be made to depend on it.
    pub digest: String,
    /// The static binaries on this machine, which also run outside of a container.
    pub programs: PathBuf,
}

impl GranaryImage {
    /// Builds the static binaries (with cargo's own caching) and the image of them.
    pub fn build(paths: &Paths) -> Result<Self> {
        let programs = build_static(paths, PROGRAMS)?;
        let image = Image {
            reference: REFERENCE.into(),
            layers: vec![layer(&programs)?],
            config: Config { environment: vec!["PATH=/usr/bin".into()], ..Config::default() },
        };
        let bytes = image.to_tar()?;
        let tar = paths.cache.join("images/granary.tar");
        crate::paths::write_atomically(&tar, &bytes)?;
        Ok(Self { tar, digest: hex::encode(Sha256::digest(&bytes)), programs })
    }

    /// The path of one of the static binaries: `granary`, `granary-csi` or `granary-operator`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

fn layer(programs: &Path) -> Result<Layer> {
    let copy = |(_, program): &(&str, &str)| Entry::copy(format!("usr/bin/{program}"), 0o755, &programs.join(program));
    let mut entries: Vec<Entry> = PROGRAMS.iter().map(copy).collect::<Result<_>>()?;
    // Programs put temporary files here; a read-only root gets a volume over it.
    entries.push(Entry::Directory { path: "tmp".into(), mode: 0o1777 });
    Ok(Layer(entries))
}

/// Builds static binaries, given as cargo's packages and the programs that they make, and returns their directory.
pub(super) fn build_static(paths: &Paths, programs: &[(&str, &str)]) -> Result<PathBuf> {
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
    let step = progress::step("building Granary's static binaries", Some("5 min, or seconds when little changed"));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--target", TARGET]).current_dir(checkout());
    for (package, _) in programs {
        cargo.args(["--package", package]);
    }
    exec::outside_of_cargo(&mut cargo);
    // Only with --target do the flags spare build scripts and macros, which cannot be static.
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").env("CARGO_TARGET_DIR", &target_dir);
    exec::logged(&mut cargo, &paths.cache.join("log/build-granary.log"))?;
    let built = target_dir.join(TARGET).join("release");
    for (_, program) in programs {
        let path = built.join(program);
        ensure!(path.is_file(), "cargo built no {}", path.display());
        ensure_static(&path)?;
    }
    step.done();
    Ok(built)
}

/// A dynamic binary would only fail in the container, with "no such file".
fn ensure_static(program: &Path) -> Result<()> {
    let headers = exec::output(Command::new("readelf").args(["--program-headers", "--wide"]).arg(program))
        .with_context(|| format!("looking at {}", program.display()))?;
    ensure!(!headers.contains("INTERP"), "{} needs a dynamic loader, which the image does not have", program.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containerfile_builds_the_same_programs() {
        let text = std::fs::read_to_string(checkout().join("Containerfile")).unwrap();
        for (package, program) in PROGRAMS {
            assert!(text.contains(&format!("--package {package} ")), "{package}");
            assert!(text.contains(&format!("release/{program}\"")), "{program}");
        }
        assert_eq!(text.matches("--package ").count(), PROGRAMS.len());
        assert!(text.contains(REFERENCE) && text.contains("PATH=/usr/bin"));
    }
}
