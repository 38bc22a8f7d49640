//! What a dataset version looks like on the wire and on disk: the extent table (which object lies where in the blob) and
//! the EROFS image (which path points where into the blob). Pure data structures: no network, no async, no Kubernetes.
//! Both formats are described byte by byte in `docs/formats.md`.

mod checked_write;
mod digest;
mod erofs;
mod extents;
mod mapped;
mod object;
mod parts;

pub use digest::{Digest, DigestError};
pub use erofs::{
    Entries, Files, ImageBuilder, ImageEntry, ImageError, ImageFile, ImageNode, ImageReader, ImageSummary,
    MAX_NAME_BYTES, MAX_PATH_BYTES, MTIME, is_file_path,
};
pub use extents::{Extent, ExtentTable, Part, PinRef, TableBuilder, TableError, TableSummary};
pub use object::{Object, Pin, PinKind, SourceId};
pub use parts::{PartRanges, parts_of};

/// Alignment of every extent in a blob, and the block size of the EROFS images, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// Largest part, in bytes. A part is the unit of presence, checksum and eviction; it never spans two objects.
pub const PART_BYTES: u64 = 1 << 20;
