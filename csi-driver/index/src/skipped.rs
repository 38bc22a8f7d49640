//! Account of keys that could not become files.

use std::collections::{BTreeMap, BTreeSet};

/// Why a key is not a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A part is empty, `.` or `..`, or there is a NUL.
    UnusableName,
    /// A part is longer than 255 bytes, or the path longer than 4,095.
    NameTooLong,
    /// Other keys make a folder of this key's name. The folder stays.
    FileAndFolder,
    /// A zero-byte object whose key ends with '/': it stands for a folder and holds no data.
    FolderMarker,
    /// The source listed the key more than once, with different sizes or pins. The one that came last stays.
    DuplicateKey,
}

impl Reason {
    /// The reason's name in `spec.skipped` of a DatasetVersion.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnusableName => "UnusableName",
            Self::NameTooLong => "NameTooLong",
            Self::FileAndFolder => "FileAndFolder",
            Self::FolderMarker => "FolderMarker",
            Self::DuplicateKey => "DuplicateKey",
        }
    }
}

/// Keys that could not become files for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The reason.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// The first of them in byte order, at most 5 of at most 1,024 bytes: the path that the file would have had, control
    /// characters escaped, the end of a longer one replaced by '…'.
    pub examples: Vec<String>,
}

const EXAMPLES: usize = 5;
const EXAMPLE_BYTES: usize = 1024;

/// Counts what is left out.
#[derive(Default)]
pub(crate) struct Account(BTreeMap<Reason, (u64, BTreeSet<String>)>);

impl Account {
    pub(crate) fn add(&mut self, reason: Reason, prefix: &str, name: &str) {
        let (count, examples) = self.0.entry(reason).or_default();
        *count += 1;
        let mut path = prefix.to_owned();
        path.push_str(name);
        examples.insert(path);
        if examples.len() > EXAMPLES {
            examples.pop_last();
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (reason, (count, examples)) in other.0 {
            let ours = self.0.entry(reason).or_default();
            ours.0 += count;
            ours.1.extend(examples);
            while ours.1.len() > EXAMPLES {
                ours.1.pop_last();
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<Skipped> {
        let skipped = |(reason, (count, examples)): (_, (_, BTreeSet<String>))| {
            let examples = examples.iter().map(|path| printable(path)).collect();
            Skipped { reason, count, examples }
        };
        self.0.into_iter().map(skipped).collect()
    }
}

fn printable(path: &str) -> String {
    const MORE: char = '…';
    let mut out = String::new();
    for c in path.chars() {
        let before = out.len();
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        if out.len() > EXAMPLE_BYTES {
            out.truncate(before);
            while out.len() > EXAMPLE_BYTES - MORE.len_utf8() {
                out.pop();
            }
            out.push(MORE);
            break;
        }
    }
    out
}
