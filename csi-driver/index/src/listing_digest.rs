//! The digest of a listing: the same wherever the same files are listed.

use granary_image::Digest;
use sha2::{Digest as _, Sha256};

use crate::collect::Entry;

const DOMAIN: &[u8] = b"granary.listing.v1\n";

/// SHA-256 over the files in byte order of their paths. Lengths come before texts, so that no two listings give the same bytes.
pub(crate) struct ListingDigest(Sha256);

impl ListingDigest {
    pub(crate) fn new() -> Self {
        Self(Sha256::new_with_prefix(DOMAIN))
    }

    pub(crate) fn add(&mut self, path: &str, entry: &Entry<'_>) {
        self.0.update((path.len() as u32).to_le_bytes());
        self.0.update(path);
        self.0.update(entry.size.to_le_bytes());
        self.0.update([entry.pin_kind as u8]);
        self.0.update((entry.pin.len() as u32).to_le_bytes());
        self.0.update(entry.pin);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_hasher(self.0)
    }
}
