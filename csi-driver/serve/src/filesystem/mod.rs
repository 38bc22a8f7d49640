//! Versions as FUSE filesystems, for kernels without EROFS or loop devices: the same image, read here.
//!
//! The server keeps nothing of what the kernel has open or has looked up: a file is its number in the image. So whoever has
//! the same image can answer for another process. Nothing ever changes, so the kernel asks for each name, each attribute and
//! each page once.
//!
//! The kernel's passthrough (`FUSE_PASSTHROUGH`, Linux 6.9) is of no use here. It gives a file's reads to another file, at
//! the same offsets and as far as that one is long, and a blob has many files at any offsets: every one would be read in
//! the first one's place, and beyond its end.

mod fuse;
mod mount;
mod on_node;
pub(crate) mod source;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use mount::FilesystemMount;
