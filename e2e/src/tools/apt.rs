//! Debian packages.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{exec, progress};

/// What building and running the cluster needs: seccomp for runc, nftables for kube-proxy, the static busybox that test
/// images are made of.
pub const CLUSTER: &[&str] = &[
    "busybox-static",
    "e2fsprogs",
    "gcc",
    "iproute2",
    "libc6-dev",
    "libseccomp-dev",
    "mount",
    "nftables",
    "pkg-config",
];

/// What the tests of the data plane need: tools that check EROFS images.
pub const TESTS: &[&str] = &["erofs-utils"];

/// What the fuzzer's engine, which is C++, is built with.
pub const FUZZ: &[&str] = &["g++"];

/// What the benchmarks compare with.
pub const BENCH: &[&str] = &["fuse3", "s3fs"];

/// Installs those of `packages` that are missing. The package lists are fetched only then, and once.
pub fn ensure(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let step = progress::step(format!("installing {}", missing.join(" ")), Some("20 s"));
    let apt = |arguments: &[&str]| {
        exec::output(
            Command::new("apt-get").args(["-q", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    apt(&["update"]).context("fetching the list of Debian packages")?;
    let install = [&["install", "--no-install-recommends"], missing.as_slice()].concat();
    apt(&install).context("installing Debian packages (are you root?)")?;
    step.done();
    Ok(())
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    // dpkg-query fails when it does not know one of them, but still prints the others.
    let said = exec::raw_output(
        Command::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(packages),
    )?;
    let installed = String::from_utf8_lossy(&said.stdout).into_owned();
    let is_installed = |package: &&str| installed.lines().any(|line| line == format!("{package} installed"));
    Ok(packages.iter().copied().filter(|package| !is_installed(package)).collect())
}
