//! What the kernel has in memory of bytes that were wrong on the disk, and are right again.

use std::fs::File;
use std::io;
use std::ops::Range;

use granary_image::ImageReader;
use rustix::fs::Advice;

use crate::node::Node;
use crate::state_dir::VersionDir;

impl Node {
    /// Has the kernel forget the files that a range of a blob belongs to, in every mount of it. What a process has mapped at the
    /// time stays as it is.
    pub(crate) fn forget_pages(&self, pool: &str, blob_id: &str, range: &Range<u64>) {
        for (key, version) in self.all_live() {
            let manifest = &version.manifest;
            if manifest.pool == pool
                && manifest.blob_id == blob_id
                && let Err(error) = forget(&self.state.version(&key), range)
            {
                tracing::warn!(
                    version = manifest.version,
                    %error,
                    "who reads a repaired part may have wrong bytes of it as long as they are in memory"
                );
            }
        }
    }
}

fn forget(dir: &VersionDir, range: &Range<u64>) -> io::Result<()> {
    let image = ImageReader::open(&dir.image()).map_err(io::Error::other)?;
    for file in image.files() {
        let file = file.map_err(io::Error::other)?;
        let of_it = |start: u64| start < range.end && range.start < start + file.size;
        if file.blob_offset.is_some_and(of_it) {
            // All of it: the kernel leaves alone what it has of a range in one piece with what lies beside.
            rustix::fs::fadvise(File::open(dir.mount_point().join(&file.path))?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
