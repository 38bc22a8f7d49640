//! Superblocks that are mounted without a device. Somebody may keep one alive after it was unmounted here, by an open file or
//! a mount namespace of his own, and it reads the blob's data file for as long. `/sys/fs/erofs` has a directory for each one
//! that is alive.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ServeError;
use crate::state_dir::{VersionDir, read_json, write_json};

const SYSFS: &str = "/sys/fs/erofs";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The names of all that are alive.
pub(crate) fn names() -> io::Result<BTreeSet<String>> {
    std::fs::read_dir(SYSFS)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// What a version's directory says of its superblock.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// Names begin anew with each start of the machine.
    boot_id: String,
    /// One of these is it. Others that came at the same moment may be among them.
    names: BTreeSet<String>,
}

/// Keeps the names that a version's superblock can have.
pub(crate) fn write(dir: &VersionDir, names: BTreeSet<String>) -> Result<(), ServeError> {
    write_json(&dir.superblocks(), &Record { boot_id: boot_id()?, names })
}

/// Whether the superblock of a version may be alive.
pub(crate) fn may_live(dir: &VersionDir) -> bool {
    let Ok(record) = read_json::<Record>(&dir.superblocks()) else { return false };
    boot_id().is_ok_and(|id| id == record.boot_id)
        && record.names.iter().any(|name| Path::new(SYSFS).join(name).exists())
}

fn boot_id() -> Result<String, ServeError> {
    std::fs::read_to_string(BOOT_ID).map_err(ServeError::io("read", BOOT_ID))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dir::StateDir;

    #[test]
    fn only_what_this_run_of_the_machine_has_may_live() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&root.path().join("state")).unwrap().version("key");
        dir.create().unwrap();
        assert!(!may_live(&dir));
        write(&dir, ["no such superblock".to_owned()].into()).unwrap();
        assert!(!may_live(&dir));
        // Not a superblock, but something that is there.
        let there = || BTreeSet::from(["features".to_owned()]);
        write(&dir, there()).unwrap();
        assert_eq!(may_live(&dir), Path::new(SYSFS).join("features").exists());
        write_json(&dir.superblocks(), &Record { boot_id: "another".into(), names: there() }).unwrap();
        assert!(!may_live(&dir));
    }
}
