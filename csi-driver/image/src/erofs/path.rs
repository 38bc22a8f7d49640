//! Which paths an image can hold.

/// Longest name of a file or directory in bytes, as in Linux.
pub const MAX_NAME_BYTES: usize = 255;

/// Longest path in bytes: with its final NUL what one system call takes.
pub const MAX_PATH_BYTES: usize = 4095;

/// Whether `path` can be a file's path in an image: relative, not too long, no empty part, none that is `.` or `..` or longer
/// than [`MAX_NAME_BYTES`], no NUL.
pub fn is_file_path(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES
        && !path.contains('\0')
        && path.split('/').all(|part| (1..=MAX_NAME_BYTES).contains(&part.len()) && part != "." && part != "..")
}
