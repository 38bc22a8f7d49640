//! Compares all of a mounted version with its model.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::model::Model;
use super::ways::{Way, forget};

/// A wrong answer, which nothing excuses.
pub(super) fn wrong(what: String) -> io::Error {
    io::Error::other(what)
}

/// Lists all directories and compares them with the model's.
pub(super) fn walk(root: &Path, model: &Model) -> io::Result<()> {
    for (directory, wanted) in model.directories() {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(root.join(directory))? {
            let entry = entry?;
            found.insert((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?.is_dir()));
        }
        if found != *wanted {
            let (more, less) = (found.difference(wanted).count(), wanted.difference(&found).count());
            return Err(wrong(format!("{directory:?} has {more} entries too many and {less} too few")));
        }
    }
    Ok(())
}

/// Reads all files past the page cache and compares them, and their names.
pub fn check_all(root: &Path, model: &Model) -> Result<()> {
    walk(root, model)?;
    for (path, wanted) in model.files() {
        let file = File::open(root.join(path)).with_context(|| format!("opening {path:?}"))?;
        forget(&file)?;
        let size = wanted.bytes.len();
        let found =
            Way::PRead.read(&file, root, size as u64, 0, size + 1).with_context(|| format!("reading {path:?}"))?;
        if found.as_deref() != Some(&wanted.bytes[..]) {
            bail!("{path:?} has wrong bytes");
        }
    }
    Ok(())
}
