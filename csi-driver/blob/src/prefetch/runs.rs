//! How far readers go that do not go to the end of a file: headers, samples of one length.

/// Runs that are remembered.
const REMEMBERED: usize = 4;

/// The lengths of the last runs that stopped inside a file.
#[derive(Debug, Default)]
pub(super) struct Runs {
    lengths: [u64; REMEMBERED],
    /// Runs that stopped since one went on to its file's end.
    stopped: usize,
}

impl Runs {
    /// A run of this many bytes stopped inside a file.
    pub(super) fn stopped(&mut self, bytes: u64) {
        self.lengths[self.stopped % REMEMBERED] = bytes;
        self.stopped += 1;
    }

    /// A run went on for this many bytes, or came to its file's end by then.
    pub(super) fn went(&mut self, bytes: u64) {
        if self.limit().is_none_or(|limit| bytes > limit) {
            self.stopped = 0;
        }
    }

    /// What all runs reach now, if they stop.
    pub(super) fn limit(&self) -> Option<u64> {
        let known = &self.lengths[..self.stopped.min(REMEMBERED)];
        known.iter().copied().min().filter(|_| known.len() > 1)
    }
}
