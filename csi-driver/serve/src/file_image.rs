//! The name under which an image is mounted without a loop device. The kernel shows it as the mount's source and nothing
//! else, so it says all that a successor must know: whose the mount is, of which version, and of which blob the parts are
//! that nobody may free. The path before it means nothing in another mount namespace.

use std::path::Path;

const PREFIX: &str = "granary-";
const SUFFIX: &str = ".erofs";

/// The file's name in the version's directory.
pub(crate) fn name(instance: &str, blob_id: &str) -> String {
    format!("{PREFIX}{instance}-{blob_id}{SUFFIX}")
}

/// The version's key and the blob's id, if `source` is an image of `instance`.
pub(crate) fn parse<'a>(source: &'a Path, instance: &str) -> Option<(&'a str, &'a str)> {
    parse_any(source).filter(|(of, ..)| *of == instance).map(|(_, key, blob_id)| (key, blob_id))
}

/// The instance, the version's key and the blob's id, if `source` is an image of whatever instance.
pub(crate) fn parse_any(source: &Path) -> Option<(&str, &str, &str)> {
    let name = source.file_name()?.to_str()?;
    let (instance, blob_id) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((instance, source.parent()?.file_name()?.to_str()?, blob_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_says_what_it_is_of() {
        let path = Path::new("/state/versions/0f3a").join(name("0123456789ab", "blob-x_1"));
        assert_eq!(parse(&path, "0123456789ab"), Some(("0f3a", "blob-x_1")));
        assert_eq!(parse(&path, "ba9876543210"), None);
        assert_eq!(parse(Path::new("/state/versions/0f3a/granary.erofs"), "0123456789ab"), None);
        assert_eq!(parse(Path::new("none"), "0123456789ab"), None);
    }
}
