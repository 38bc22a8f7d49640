//! A Secret that is mounted into an index Job.

use std::path::Path;

use granary_fetch::SecretKeys;

/// The keys in a mounted Secret; none if it is not there.
pub fn read(directory: &Path) -> SecretKeys {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return SecretKeys::default();
    };
    // The kubelet's own links begin with '..'; keys are links too.
    let key = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with(".."))?;
        match std::fs::read_to_string(entry.path()) {
            Ok(value) => Some((name, value)),
            Err(error) => {
                tracing::warn!("key '{name}' of the Secret is of no use: {error}");
                None
            }
        }
    };
    entries.flatten().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn reads_the_layout_that_the_kubelet_makes() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("..2026_01_01");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("token"), "abc").unwrap();
        std::fs::write(data.join("image"), [0xff, 0xfe]).unwrap();
        symlink("..2026_01_01", root.path().join("..data")).unwrap();
        for key in ["token", "image"] {
            symlink(format!("..data/{key}"), root.path().join(key)).unwrap();
        }
        let keys = read(root.path());
        assert_eq!(keys.names().collect::<Vec<_>>(), ["token"]);
        assert_eq!(keys.get(None, "token"), Some("abc"));
    }

    #[test]
    fn a_missing_secret_has_no_keys() {
        let root = tempfile::tempdir().unwrap();
        assert!(read(root.path()).is_empty());
        assert!(read(&root.path().join("none")).is_empty());
    }
}
