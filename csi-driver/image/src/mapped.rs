//! Bytes of a file that is read in place.

use std::{fs::File, io, ops::Deref, path::Path};

use memmap2::{Mmap, UncheckedAdvice};

/// The content of a table or an image: mapped from a file, or held in memory.
pub(crate) enum Mapped {
    File(Mmap),
    Memory(Vec<u8>),
}

impl Mapped {
    /// Maps the file at `path`. An empty file is no error here: it is too short for every format.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self::Memory(Vec::new()));
        }
        // SAFETY: the artifacts lie in directories that only root may write, under names made of their digests, and are
        // replaced by rename only; nobody changes or truncates one in place.
        unsafe { Mmap::map(&file) }.map(Self::File)
    }

    /// Gives back the memory of what was read: it is mapped again when it is needed. Nothing is lost if that fails.
    pub(crate) fn release_pages(&self) {
        if let Self::File(map) = self {
            // SAFETY: a shared mapping of a file that nobody writes reads the same bytes afterwards.
            let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::File(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}
