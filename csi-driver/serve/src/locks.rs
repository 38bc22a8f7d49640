//! One lock for each name.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Locks by name, made when asked for and forgotten when nobody holds or waits for them.
pub(crate) struct NamedLocks<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

impl<K> Default for NamedLocks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> NamedLocks<K> {
    /// Waits for the lock called `name`.
    pub(crate) async fn lock(&self, name: K) -> OwnedMutexGuard<()> {
        self.named(name).lock_owned().await
    }

    /// The lock called `name`, if nobody has it.
    pub(crate) fn try_lock(&self, name: K) -> Option<OwnedMutexGuard<()>> {
        self.named(name).try_lock_owned().ok()
    }

    fn named(&self, name: K) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        let entry = locks.entry(name).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let lock = Arc::new(tokio::sync::Mutex::new(()));
            *entry = Arc::downgrade(&lock);
            lock
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_holder_for_each_name() {
        let locks = NamedLocks::default();
        let held = locks.lock("a").await;
        assert!(locks.lock("b").now_or_never().is_some());
        assert!(locks.lock("a").now_or_never().is_none());
        assert!(locks.try_lock("a").is_none() && locks.try_lock("b").is_some());
        drop(held);
        assert!(locks.lock("a").now_or_never().is_some());
        drop(locks.lock("c").await);
        assert_eq!(locks.0.lock().len(), 1, "forgotten locks take no room");
    }
}
