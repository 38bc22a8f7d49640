//! What several threads share, and tasks: those of every day, or with the feature `shuttle` those by which a test tries one
//! order of events after the other (`interleavings`).

#[cfg(not(feature = "shuttle"))]
pub(crate) use self::everyday::*;
#[cfg(feature = "shuttle")]
pub(crate) use self::shuttled::*;

#[cfg(not(feature = "shuttle"))]
mod everyday {
    pub(crate) use std::sync::atomic;

    pub(crate) use parking_lot::{Mutex, RwLock};
    pub(crate) use tokio::runtime::Handle;
    pub(crate) use tokio::spawn;
    pub(crate) use tokio::sync::Notify;
    pub(crate) use tokio::task::{AbortHandle, spawn_blocking};
    pub(crate) use tokio::time::sleep;

    /// Before what others see at once, such as a change of a file.
    pub(crate) fn step() {}
}

/// With the interfaces of the everyday ones.
#[cfg(feature = "shuttle")]
mod shuttled {
    use std::sync::PoisonError;
    use std::time::Duration;

    use shuttle::future::JoinHandle;
    pub(crate) use shuttle::future::{AbortHandle, spawn};
    pub(crate) use shuttle::sync::atomic;
    use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
    use tokio::sync::futures::Notified;

    // A test that panics with a lock taken has failed already: poison says nothing.

    #[derive(Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Somebody else may go on here.
    pub(crate) fn step() {
        atomic::AtomicBool::new(false).load(atomic::Ordering::SeqCst);
    }

    /// tokio's, each call of which is a step.
    #[derive(Default)]
    pub(crate) struct Notify(tokio::sync::Notify);

    impl Notify {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notified(&self) -> Notified<'_> {
            step();
            self.0.notified()
        }

        pub(crate) fn notify_one(&self) {
            step();
            self.0.notify_one();
        }

        pub(crate) fn notify_waiters(&self) {
            step();
            self.0.notify_waiters();
        }
    }

    /// The scheduler's tasks are of no runtime.
    pub(crate) struct Handle;

    impl Handle {
        pub(crate) fn current() -> Self {
            Self
        }

        pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
        where
            F: Future<Output: Send> + Send + 'static,
        {
            spawn(work)
        }
    }

    pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        spawn(async { work() })
    }

    /// Time stands still.
    pub(crate) async fn sleep(_: Duration) {
        std::future::pending().await
    }
}
