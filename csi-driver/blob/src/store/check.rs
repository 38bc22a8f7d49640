//! Whether a part's bytes in the file are those that were written.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use granary_image::BLOCK_BYTES;
use rustix::fs::{Mode, OFlags};

use super::{Place, Store};

/// Memory for a look past the page cache is aligned to so many bytes, as disks want it.
const ALIGNMENT: usize = BLOCK_BYTES as usize;
/// One read.
const CHUNK: usize = 128 << 10;

/// From where bytes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// From the page cache, where a reader wants them next.
    Cached,
    /// From the disk, past the page cache and without a trace in it: what the kernel gets that reads natively.
    Disk,
}

/// What a look at a part has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its bytes match its checksum.
    Sound,
    /// They do not, or cannot be read: nobody gets them any more.
    Damaged,
    /// The part is absent, or being filled or evicted.
    Gone,
}

impl Store {
    /// Checks a part that is present, checked before or not. It stays meanwhile. Blocks.
    pub(crate) fn look_at(&self, number: u64, look: Look) -> Seen {
        let state = self.parts.get(number);
        if !state.begin_check() {
            return Seen::Gone;
        }
        let seen = match self.place(number) {
            // Neither table nor map knows of it: it is in the map no more, and nobody can ask for it.
            Ok(None) => Seen::Gone,
            Ok(Some(place)) if self.crc_of(place, look).is_ok_and(|crc| crc == state.crc()) => {
                state.verified();
                Seen::Sound
            }
            Ok(Some(place)) => {
                state.doubted();
                // What is there in memory may be better than what is on the disk, and must not be taken for it.
                self.drop_pages(place.offset, place.len);
                Seen::Damaged
            }
            Err(_) => {
                state.doubted();
                Seen::Damaged
            }
        };
        state.unpin();
        seen
    }

    fn crc_of(&self, place: Place, look: Look) -> io::Result<u32> {
        let mut memory = vec![0; CHUNK + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let buffer = &mut memory[start..start + CHUNK];
        let direct = (look == Look::Disk).then(|| self.direct()).flatten();
        if look == Look::Disk && direct.is_none() {
            self.drop_pages(place.offset, place.len);
        }
        let (mut at, mut crc) = (0, 0);
        while at < place.len {
            let wanted = (place.len - at).min(CHUNK as u64) as usize;
            match &direct {
                // In whole blocks, as which the file was made.
                Some(file) => {
                    file.read_exact_at(&mut buffer[..wanted.next_multiple_of(ALIGNMENT)], place.offset + at)?
                }
                None => self.data.read_exact_at(&mut buffer[..wanted], place.offset + at)?,
            }
            crc = crc32c::crc32c_append(crc, &buffer[..wanted]);
            at += wanted as u64;
        }
        if look == Look::Disk && direct.is_none() {
            self.drop_pages(place.offset, place.len);
        }
        Ok(crc)
    }

    /// The data file, to be read past the page cache; `None` where the filesystem cannot.
    fn direct(&self) -> Option<File> {
        // By descriptor: the name may be another file's by now.
        let path = format!("/proc/self/fd/{}", self.data.as_raw_fd());
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).ok().map(File::from)
    }
}
