//! Right checksums for bytes that a fuzzer made: it would never guess one, and see nothing of what comes after the check.

const SUPERBLOCK: std::ops::Range<usize> = 1024..4096;
const TABLE_HEADER: usize = 128;
const PAGE: usize = 512;

/// Seals an EROFS image. One that is too short for a superblock stays as it is.
pub fn image(bytes: &mut [u8]) {
    let Some(superblock) = bytes.get_mut(SUPERBLOCK) else { return };
    superblock[4..8].fill(0);
    // The kernel's CRC32C has no final inversion.
    let crc = !crc32c::crc32c(superblock);
    superblock[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Seals an extent table. One that is shorter than its header stays as it is.
pub fn table(bytes: &mut [u8]) {
    let Some((header, body)) = bytes.split_at_mut_checked(TABLE_HEADER) else { return };
    header[16..20].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    header[12..16].fill(0);
    let crc = crc32c::crc32c(header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Seals each page of a parts file, but for pages of zeros, which need no checksum.
pub fn parts(bytes: &mut [u8]) {
    for page in bytes.chunks_exact_mut(PAGE).filter(|page| page.iter().any(|&byte| byte != 0)) {
        let crc = crc32c::crc32c(&page[4..]);
        page[..4].copy_from_slice(&crc.to_le_bytes());
    }
}
