//! One operation at a time for each published volume.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The targets that are being worked on.
///
/// The key is the target, not the volume: many pods of a node start on one volume at the same moment, each with its own target, and
/// none of them should be sent away.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Mutex<HashSet<PathBuf>>>);

/// Holds a target until it is dropped.
pub struct Guard {
    targets: InFlight,
    target: PathBuf,
}

impl InFlight {
    /// Takes `target`; none if somebody has it.
    pub fn take(&self, target: &Path) -> Option<Guard> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned());
        taken.then(|| Guard { targets: self.clone(), target: target.to_owned() })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.targets.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_taken_once_and_given_back() {
        let in_flight = InFlight::default();
        let guard = in_flight.take(Path::new("/a"));
        assert!(guard.is_some());
        assert!(in_flight.take(Path::new("/a")).is_none());
        assert!(in_flight.take(Path::new("/b")).is_some());
        drop(guard);
        assert!(in_flight.take(Path::new("/a")).is_some());
    }
}
