//! The EROFS image of a version: names and sizes only; the files' bytes lie in the blob, which is the image's one extra
//! device. On-disk format: <https://docs.kernel.org/filesystems/erofs.html> and `fs/erofs/erofs_fs.h` of Linux.

mod directory;
mod error;
mod layout;
mod nodes;
mod path;
mod reader;
mod tree;
mod writer;

pub use error::ImageError;
pub use layout::MTIME;
pub use nodes::{Entries, ImageEntry, ImageNode};
pub use path::{MAX_NAME_BYTES, MAX_PATH_BYTES, is_file_path};
pub use reader::{Files, ImageFile, ImageReader};
pub use writer::{ImageBuilder, ImageSummary};
