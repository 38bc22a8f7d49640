//! What mountinfo has as the source of a version that is a FUSE filesystem. It says all that a successor must know: whose the
//! mount is and of which version. There is no such file.

use std::path::Path;

use crate::mountinfo::Mount;
use crate::state_dir::VersionDir;

/// Behind the dot of the filesystem's type.
pub(crate) const SUBTYPE: &str = "granary";
const TYPE: &str = "fuse.granary";
const PREFIX: &str = "granary-";
const SUFFIX: &str = ".fuse";
/// The kernel takes no longer one.
const LONGEST: usize = 255;

/// The source of a version of `instance`: a path in its directory, for `granary status`, or as much of it as the kernel
/// takes.
pub(crate) fn of(instance: &str, dir: &VersionDir) -> String {
    let path = dir.path().join(format!("{PREFIX}{instance}{SUFFIX}"));
    match path.to_str() {
        Some(path) if path.len() <= LONGEST => path.to_owned(),
        _ => {
            let key = dir.path().file_name().unwrap_or_default().to_string_lossy();
            format!("{key}/{PREFIX}{instance}{SUFFIX}")
        }
    }
}

/// The version's key, if `mount` is one of `instance`.
pub(crate) fn parse<'a>(mount: &'a Mount, instance: &str) -> Option<&'a str> {
    parse_any(mount).filter(|(of, _)| *of == instance).map(|(_, key)| key)
}

/// The instance and the version's key, if `mount` is one of whatever instance.
pub(crate) fn parse_any(mount: &Mount) -> Option<(&str, &str)> {
    let source = Path::new(&mount.source);
    let name = source.file_name()?.to_str()?;
    let instance = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (mount.filesystem == TYPE).then_some((instance, source.parent()?.file_name()?.to_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dir::StateDir;

    fn mount(filesystem: &str, source: &str) -> Mount {
        Mount {
            major: 0,
            minor: 50,
            mount_point: "/pods/a".into(),
            filesystem: filesystem.to_owned(),
            source: source.into(),
            options: "ro".into(),
        }
    }

    #[test]
    fn a_source_says_what_it_is_of() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("x".repeat(250));
        std::fs::create_dir(&long).unwrap();
        for (parent, is_whole) in [(root.path(), true), (long.as_path(), false)] {
            let state = StateDir::open(&parent.join("state")).unwrap();
            let dir = state.version("0f3a");
            let source = of(&state.instance, &dir);
            assert!(source.len() <= LONGEST);
            assert_eq!(parse(&mount(TYPE, &source), &state.instance), Some("0f3a"));
            assert_eq!(parse(&mount(TYPE, &source), "ba9876543210"), None);
            assert_eq!(parse(&mount("fuse.other", &source), &state.instance), None);
            let found = VersionDir::of_image(Path::new(&source)).unwrap();
            assert_eq!(found.path() == dir.path(), is_whole);
        }
        assert_eq!(parse_any(&mount(TYPE, "granary")), None);
    }
}
