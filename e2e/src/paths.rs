//! Where things are kept: build results in the user's cache, everything of a running cluster below one state directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The environment variable that moves the state directory.
pub const STATE_VARIABLE: &str = "GRANARY_E2E_STATE";

/// The two directories that this crate writes to, besides cargo's target directory.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Outlives clusters: tools, wheels, image layers.
    pub cache: PathBuf,
    /// The running cluster: certificates, data, logs, pid files, mounts. `cluster down` removes it.
    pub state: PathBuf,
}

impl Paths {
    /// `${XDG_CACHE_HOME:-$HOME/.cache}/granary` and `${GRANARY_E2E_STATE:-/var/lib/granary-e2e}`.
    pub fn from_env() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let cache = variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set, so there is no place for built tools")?
            .join("granary");
        let state = variable(STATE_VARIABLE).unwrap_or_else(|| PathBuf::from("/var/lib/granary-e2e"));
        anyhow::ensure!(state.is_absolute(), "{STATE_VARIABLE} must be an absolute path, not {}", state.display());
        Ok(Self { cache, state })
    }

    /// The log file of the process `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.state.join("log").join(format!("{name}.log"))
    }
}

/// The root of the checkout that this program was built from.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Writes a file whole or not at all, so that a killed run leaves no half of one.
pub fn write_atomically(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let parent = path.parent().with_context(|| format!("{} has no directory", path.display()))?;
    std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let mut file =
        tempfile::NamedTempFile::new_in(parent).with_context(|| format!("making a file in {}", parent.display()))?;
    std::io::Write::write_all(&mut file, bytes.as_ref()).with_context(|| format!("writing {}", path.display()))?;
    file.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}
