//! Failed reads by dataset, kept when its blobs are closed: a pod that ends because of one must not take the report with it.

use std::collections::BTreeMap;

use granary_blob::{BlobTag, ReadErrorCount};

/// Datasets that are remembered: as many as a node's report has room for.
const DATASETS_MAX: usize = 512;

/// Failed reads by dataset and reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadErrors(BTreeMap<BlobTag, Vec<ReadErrorCount>>);

impl ReadErrors {
    /// Adds what a blob has counted since it had counted `before`.
    pub(crate) fn add(&mut self, tag: &BlobTag, now: Vec<ReadErrorCount>, before: &[ReadErrorCount]) {
        for mut error in now {
            let known = before.iter().find(|b| b.reason == error.reason).map_or(0, |b| b.count);
            error.count -= known.min(error.count);
            if error.count > 0 {
                add(self.0.entry(tag.clone()).or_default(), error);
            }
        }
        while self.0.len() > DATASETS_MAX {
            let last = |errors: &[ReadErrorCount]| errors.iter().map(|error| error.last).max();
            let Some(oldest) = self.0.iter().min_by_key(|(_, errors)| last(errors)).map(|(tag, _)| tag.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }

    /// All of them.
    pub(crate) fn into_datasets(self) -> impl Iterator<Item = (BlobTag, Vec<ReadErrorCount>)> {
        self.0.into_iter()
    }
}

/// A dataset can have several blobs, and errors of one reason are one.
fn add(errors: &mut Vec<ReadErrorCount>, error: ReadErrorCount) {
    match errors.iter_mut().find(|known| known.reason == error.reason) {
        Some(known) => {
            known.count += error.count;
            known.last = known.last.max(error.last);
        }
        None => errors.push(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn tag(uid: &str) -> BlobTag {
        BlobTag { dataset_uid: uid.into(), namespace: "n".into(), name: "d".into() }
    }

    fn error(reason: &str, count: u64, second: u64) -> ReadErrorCount {
        ReadErrorCount { reason: reason.into(), count, last: UNIX_EPOCH + Duration::from_secs(second) }
    }

    #[test]
    fn what_was_counted_before_counts_once() {
        let mut errors = ReadErrors::default();
        errors.add(&tag("u"), vec![error("Changed", 3, 7)], &[]);
        errors.add(&tag("u"), vec![error("Changed", 5, 9), error("Other", 1, 8)], &[error("Changed", 3, 7)]);
        errors.add(&tag("v"), vec![error("Changed", 3, 7)], &[error("Changed", 3, 7)]);
        let all: Vec<_> = errors.into_datasets().collect();
        assert_eq!(all, [(tag("u"), vec![error("Changed", 5, 9), error("Other", 1, 8)])]);
    }

    #[test]
    fn the_dataset_without_errors_for_longest_is_forgotten() {
        let mut errors = ReadErrors::default();
        for i in 0..=DATASETS_MAX as u64 {
            errors.add(&tag(&i.to_string()), vec![error("Changed", 1, 1000 - i)], &[]);
        }
        let all: Vec<_> = errors.into_datasets().collect();
        assert_eq!(all.len(), DATASETS_MAX);
        assert!(all.iter().all(|(t, _)| *t != tag(&DATASETS_MAX.to_string())));
    }
}
