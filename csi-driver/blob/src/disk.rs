//! Whatever the cache changes on the disk goes through here, file by file and name by name: so a test can record it, and replay
//! what a power cut would have left of it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags};

#[cfg(test)]
pub(crate) mod record;
#[cfg(test)]
use record::{Change, Recorded};

use crate::sync::step;

/// A file of a cache, to be read as any other.
pub(crate) struct CacheFile {
    file: File,
    #[cfg(test)]
    recorded: Option<Recorded>,
}

impl CacheFile {
    /// Opens a file of ours for reading and writing, made private where it is missing; a link in its place is an error.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(path)?;
        Ok(Self {
            file,
            #[cfg(test)]
            recorded: record::opened(path),
        })
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        step();
        let written = self.file.write_all_at(bytes, offset);
        // Of a write that failed, some bytes may be there all the same.
        #[cfg(test)]
        self.record(|inode| Change::Write { inode, offset, bytes: bytes.to_vec() });
        written
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        #[cfg(test)]
        self.record(|inode| Change::SetLen { inode, len });
        Ok(())
    }

    /// Frees a range without changing the file's length: it reads as zeros.
    pub(crate) fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        step();
        rustix::fs::fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?;
        #[cfg(test)]
        self.record(|inode| Change::Punch { inode, offset, len });
        Ok(())
    }

    /// Makes the bytes and the length durable. The file's name is a matter of [`sync_dir`].
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        step();
        #[cfg(test)]
        if let Some(recorded) = &self.recorded {
            recorded.sync();
            return Ok(());
        }
        self.file.sync_data()
    }

    #[cfg(test)]
    fn record(&self, change: impl FnOnce(record::Inode) -> Change) {
        if let Some(recorded) = &self.recorded {
            recorded.push(change);
        }
    }
}

impl Deref for CacheFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl From<File> for CacheFile {
    fn from(file: File) -> Self {
        Self {
            file,
            #[cfg(test)]
            recorded: None,
        }
    }
}

/// Makes a private directory where there is none; gives whether it did.
pub(crate) fn make_dir(dir: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        made => {
            made?;
            #[cfg(test)]
            record::changed(dir, |path| Change::MakeDir { path });
            Ok(true)
        }
    }
}

/// Removes a file. One that is not there is no error.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed?;
            #[cfg(test)]
            record::changed(path, |path| Change::Remove { path });
            Ok(())
        }
    }
}

/// Removes a directory. One that is not there is no error.
pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed?;
            #[cfg(test)]
            record::changed(dir, |path| Change::Remove { path });
            Ok(())
        }
    }
}

/// Gives a file the name of another one in the same directory, and takes its place.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    #[cfg(test)]
    record::changed(from, |path| Change::Rename { from: path, to: to.to_path_buf() });
    Ok(())
}

/// Makes durable which names a directory has.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    if record::synced(dir) {
        return Ok(());
    }
    File::open(dir)?.sync_all()
}
