//! How the C library's allocator treats large blocks.

/// Blocks from this length on are the kernel's own, and go back to it. In bytes.
const LARGE: libc::c_int = 4 << 20;

/// Keeps the threshold where it is. Else each large block that is freed raises it, up to 32 MiB, and later ones are cut from the heap,
/// where what was used before is filled with zeros again: each thread of a FUSE session has a buffer of 16 MiB for requests, of
/// which it needs some hundred bytes, and would have all of it in memory.
pub(crate) fn settle() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes a number of the allocator's, under the allocator's lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
