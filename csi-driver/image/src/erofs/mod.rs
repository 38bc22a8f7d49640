//! The EROFS image of a version: names and sizes only; the files' bytes lie in the blob, which is the image's one extra
//! device. On-disk format: <https://docs.kernel.org/filesystems/erofs.html> and `fs/erofs/erofs_fs.h` of Linux.

mod error;
mod reader;
mod writer;

pub use error::ImageError;
pub use reader::{Files, ImageFile, ImageReader};
pub use writer::{ImageBuilder, ImageSummary};
