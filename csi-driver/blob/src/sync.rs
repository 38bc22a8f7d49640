//! Locks and atomics of what several threads share: those of every day, or with the feature `shuttle` those by which a
//! test tries one order of events after the other (`interleavings`).

#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::Mutex;
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::atomic;
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::atomic;

#[cfg(feature = "shuttle")]
pub(crate) use self::shuttled::Mutex;

#[cfg(feature = "shuttle")]
mod shuttled {
    use shuttle::sync::MutexGuard;

    /// With the interface of the everyday one.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            // A test that panics with a lock taken has failed already.
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}
