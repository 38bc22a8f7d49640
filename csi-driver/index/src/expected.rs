//! Files whose content the Dataset states in `http.files[].digest`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use granary_fetch::{Listed, RetryPolicy, Source, SourceConfig, read_retrying};
use granary_image::Digest;
use sha2::{Digest as _, Sha256};

use crate::IndexError;

/// Bytes a second below which a file is given up.
const SLOWEST: u64 = 256 << 10;

/// The stated digests of one source, and the files of its listing that have one.
pub(crate) struct Expected<'a> {
    digests: HashMap<&'a str, Digest>,
    found: Vec<(Listed, Digest)>,
}

impl<'a> Expected<'a> {
    pub(crate) fn of(config: &'a SourceConfig) -> Self {
        let files = config.http.iter().flat_map(|http| &http.files);
        let digests = files.filter_map(|file| Some((file.path.as_str(), file.digest?))).collect();
        Self { digests, found: Vec::new() }
    }

    /// Remembers a file of the listing if its digest is stated.
    pub(crate) fn note(&mut self, listed: &Listed) {
        if let Some(&digest) = self.digests.get(listed.key.as_str()) {
            self.found.push((listed.clone(), digest));
        }
    }

    /// Reads each of them once from end to end, under the pin with which it was listed.
    pub(crate) async fn check(self, source: &Arc<Source>) -> Result<(), IndexError> {
        for (listed, expected) in self.found {
            let found = digest(source, &listed).await?;
            if found != expected {
                let uri = source.config().uri.clone();
                return Err(IndexError::Digest { uri, path: listed.key, expected, found });
            }
            tracing::debug!(uri = source.config().uri, path = listed.key, "the file has the stated digest");
        }
        Ok(())
    }
}

async fn digest(source: &Arc<Source>, listed: &Listed) -> Result<Digest, IndexError> {
    let mut policy = RetryPolicy::default();
    policy.deadline += Duration::from_secs(listed.size / SLOWEST);
    let (key, pin, size) = (listed.key.clone(), listed.pin.clone(), listed.size);
    let mut bytes = read_retrying(source.clone(), key, pin, size, 0..size, policy);
    let mut hasher = Sha256::new();
    while let Some(chunk) = bytes.next().await {
        hasher.update(chunk?);
    }
    Ok(Digest::from_hasher(hasher))
}
