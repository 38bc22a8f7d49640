//! What is mounted, as `/proc/self/mountinfo` says. Reading it touches no mount.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// One mount of this mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Device of the filesystem: for one on a loop device, that of the loop device.
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mount_point: PathBuf,
    pub(crate) filesystem: String,
    pub(crate) source: OsString,
    /// Of this mount, comma-separated.
    pub(crate) options: String,
}

/// All mounts, in the order in which they were made: of several at one place the last is on top.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// What is on top at `path`, which must be absolute and free of symbolic links.
pub(crate) fn at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().rfind(|mount| mount.mount_point == path)
}

/// Lines that do not look as proc(5) says are left out.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, with any number of fields before
/// the dash.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let mount_point = PathBuf::from(unescape(fields.nth(1)?));
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    fields.find(|field| *field == b"-")?;
    let filesystem = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    Some(Mount { major: major.parse().ok()?, minor: minor.parse().ok()?, mount_point, filesystem, source, options })
}

/// Space, tab, newline and backslash come as a backslash and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// `path` as mountinfo writes it: absolute, symbolic links above the last part resolved. The last part itself is not touched,
/// since it may be a mount that does not answer.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path has no last part"))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().as_bytes().is_empty() => parent.canonicalize()?,
        _ => std::env::current_dir()?,
    };
    Ok(parent.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw\n\
42 27 254:0 /var/lib /data\\040set\\134x rw,relatime shared:1 master:7 - ext4 /dev/vda rw,discard\n\
90 27 7:12 / /pods/a ro,nosuid,nodev - erofs /dev/loop12 ro\n\
91 27 0:50 / /pods/a rw - tmpfs none rw\n\
broken line\n\
92 27 x:y / /pods/b rw - tmpfs none rw\n";

    #[test]
    fn reads_what_proc_5_describes() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].mount_point, Path::new("/data set\\x"));
        assert_eq!((mounts[1].filesystem.as_str(), mounts[1].source.to_str()), ("ext4", Some("/dev/vda")));
        assert_eq!((mounts[2].major, mounts[2].minor, mounts[2].options.as_str()), (7, 12, "ro,nosuid,nodev"));
    }

    #[test]
    fn the_last_mount_is_on_top() {
        let mounts = parse(TEXT);
        assert_eq!(at(&mounts, Path::new("/pods/a")).map(|m| m.filesystem.as_str()), Some("tmpfs"));
        assert_eq!(at(&mounts, Path::new("/pods")), None);
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(unescape(b"a\\04"), "a\\04");
        assert_eq!(unescape(b"\\777\\999"), "\\777\\999");
    }

    #[test]
    fn canonical_resolves_all_but_the_last_part() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        assert_eq!(canonical(&real.join("link/absent")).unwrap(), real.join("absent"));
        assert!(canonical(Path::new("/")).is_err());
        assert!(canonical(&real.join("nowhere/absent")).is_err());
    }
}
