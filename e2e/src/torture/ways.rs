//! The ways in which programs read files. A failure of the kernel is always an error here: a mapping is read by the kernel on
//! our behalf, since a failed access of our own would end the process.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::MemfdFlags;

/// What a direct read must be aligned to, in bytes.
const ALIGNMENT: u64 = 4096;
/// How much a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// One way to read a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `read` after `lseek`, in odd pieces.
    Read,
    /// `pread`.
    PRead,
    /// Through a mapping.
    Mapped,
    /// `sendfile` to another file.
    SendFile,
    /// `splice` into a pipe.
    Splice,
    /// With `O_DIRECT`.
    Direct,
}

impl Way {
    pub(super) const ALL: [Self; 6] =
        [Self::Read, Self::PRead, Self::Mapped, Self::SendFile, Self::Splice, Self::Direct];

    /// The bytes of `file`, which is the one at `path` and is `size` bytes long, from `at` on: `len` of them or as many as there
    /// are. `None` if the kernel does not offer this way here.
    pub(super) fn read(self, file: &File, path: &Path, size: u64, at: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Read => read(file, at, len).map(Some),
            Self::PRead => pread(file, at, len).map(Some),
            Self::Mapped => mapped(file, size, at, len).map(Some),
            Self::SendFile => send_file(file, at, len).map(Some),
            Self::Splice => splice(file, at, len).map(Some),
            Self::Direct => direct(path, at, len),
        }
    }
}

fn read(mut file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut found = vec![0xAA; len];
    let mut done = 0;
    while done < len {
        let end = len.min(done + 100_003);
        match file.read(&mut found[done..end])? {
            0 => break,
            n => done += n,
        }
    }
    found.truncate(done);
    Ok(found)
}

fn pread(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut found = vec![0xAA; len];
    let done = pread_into(file, &mut found, at)?;
    found.truncate(done);
    Ok(found)
}

fn pread_into(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Whole pages, so that what follows the file's end in its last page is seen, too: it must be zeros.
fn mapped(file: &File, size: u64, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let end = size.min(at + len as u64);
    if at >= end {
        return Ok(Vec::new());
    }
    let (first, beyond) = (at / ALIGNMENT * ALIGNMENT, end.next_multiple_of(ALIGNMENT));
    // SAFETY: the file is read-only and stays what it is; its bytes are not looked at here but by the kernel.
    let map = unsafe { MmapOptions::new().offset(first).len((beyond - first) as usize).map(file)? };
    let copy = memory_file()?;
    // The kernel reads the mapping and answers EFAULT where there is nothing to be had.
    copy.write_all_at(&map, 0).map_err(|error| match error.raw_os_error() {
        Some(libc::EFAULT) => io::Error::from_raw_os_error(libc::EIO),
        _ => error,
    })?;
    let mut found = pread(&copy, 0, map.len())?;
    if end == size && found[(end - first) as usize..].iter().any(|byte| *byte != 0) {
        return Err(io::Error::other("the last page has something after the file's end"));
    }
    found.truncate((end - first) as usize);
    Ok(found.split_off((at - first) as usize))
}

fn memory_file() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("torture", MemfdFlags::CLOEXEC)?.into())
}

fn send_file(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let (copy, mut from) = (memory_file()?, at);
    while from < at + len as u64 {
        let left = (at + len as u64 - from) as usize;
        if rustix::fs::sendfile(&copy, file, Some(&mut from), left)? == 0 {
            break;
        }
    }
    pread(&copy, 0, (from - at) as usize)
}

fn splice(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let (mut reader, writer) = io::pipe()?;
    let (mut from, end) = (at as libc::loff_t, at as libc::loff_t + len as libc::loff_t);
    let mut found = Vec::with_capacity(len);
    while from < end {
        let most = PIPE_BYTES.min((end - from) as usize);
        // SAFETY: both descriptors are open, and the offset lives until the call returns.
        let moved =
            unsafe { libc::splice(file.as_raw_fd(), &raw mut from, writer.as_raw_fd(), std::ptr::null_mut(), most, 0) };
        let moved = usize::try_from(moved).map_err(|_| io::Error::last_os_error())?;
        if moved == 0 {
            break;
        }
        let start = found.len();
        found.resize(start + moved, 0xAA);
        reader.read_exact(&mut found[start..])?;
    }
    Ok(found)
}

fn direct(path: &Path, at: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
    let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    let file = match File::options().read(true).custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if refused(&error) => return Ok(None),
        file => file?,
    };
    let first = at / ALIGNMENT * ALIGNMENT;
    let whole = (at + len as u64).next_multiple_of(ALIGNMENT) - first;
    // An anonymous mapping is aligned to pages.
    let mut buf = MmapMut::map_anon((whole as usize).max(1))?;
    let done = match pread_aligned(&file, &mut buf[..whole as usize], first) {
        Err(error) if refused(&error) => return Ok(None),
        done => done?,
    };
    let end = done.min((at - first) as usize + len);
    Ok(Some(buf[..end].get((at - first) as usize..).unwrap_or_default().to_vec()))
}

/// Ends at the first answer that is no multiple of the alignment: that is the file's end.
fn pread_aligned(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() && (done as u64).is_multiple_of(ALIGNMENT) {
        match file.read_at(&mut buf[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Takes what the file has out of the page cache, as far as nobody has it mapped.
pub(super) fn forget(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn all_ways_give_the_same_bytes_and_end_where_the_file_ends() {
        let bytes: Vec<u8> = (0..300_001u32).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let opened = File::open(file.path()).unwrap();
        for (at, len) in [(0, 300_001), (1, 4096), (4095, 70_000), (299_990, 100), (300_001, 5), (400_000, 5), (7, 0)] {
            let wanted = &bytes[(at as usize).min(bytes.len())..(at as usize + len).min(bytes.len())];
            for way in Way::ALL {
                let found = way.read(&opened, file.path(), bytes.len() as u64, at, len).unwrap();
                assert!(found.is_none_or(|found| found == wanted), "{way:?} of {len} bytes at {at}");
            }
        }
    }
}
