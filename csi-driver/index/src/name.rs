//! Which keys can be files.

use granary_image::{MAX_NAME_BYTES, MAX_PATH_BYTES};

use crate::Reason;

/// Why `name` (a key, or the name of the single object) of an object of `size` bytes cannot be a file below a directory whose
/// path takes `prefix_bytes`; `None` if it can.
pub(crate) fn obstacle(name: &str, size: u64, prefix_bytes: usize) -> Option<Reason> {
    // What consoles and tools create to show an empty folder. The key may be empty: the folder is the source itself.
    if size == 0 && (name.is_empty() || name.ends_with('/')) {
        return Some(Reason::FolderMarker);
    }
    if name.contains('\0') || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some(Reason::UnusableName);
    }
    let too_long =
        prefix_bytes + name.len() > MAX_PATH_BYTES || name.split('/').any(|part| part.len() > MAX_NAME_BYTES);
    too_long.then_some(Reason::NameTooLong)
}
