//! The image of test pods that read a dataset and say what they found.

use std::path::PathBuf;

use anyhow::Result;

use super::granary::build_static;
use super::{Image, static_image};
use crate::paths::Paths;

/// The image's name.
pub const REFERENCE: &str = "granary.dev/e2e/probe:1";

/// Builds the probe; returns it for this machine and as the tar of an image whose only program it is.
pub fn probe(paths: &Paths) -> Result<(PathBuf, PathBuf)> {
    let program = build_static(paths, &[("granary-probe", "granary-probe")])?.join("granary-probe");
    let image: Image = static_image(REFERENCE, &program)?;
    let tar = paths.cache.join("images/probe.tar");
    image.write(&tar)?;
    Ok((program, tar))
}
