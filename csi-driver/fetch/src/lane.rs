//! Work that blocks its thread. A disk or a name server that hangs keeps the thread for as long as it likes, whatever becomes of
//! who waits for it, and the runtime's threads are everybody's: whoever can hang gets a number of them and no more.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinError};

/// So many threads at once.
#[derive(Clone, Debug)]
pub(crate) struct Lane(Arc<Semaphore>);

impl Lane {
    pub(crate) fn new(width: usize) -> Self {
        Self(Arc::new(Semaphore::new(width)))
    }

    /// Runs `work` on a thread when there is one. It goes on when this future is dropped, and keeps its place until it ends.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Nobody closes it.
        let place = self.0.clone().acquire_owned().await.ok();
        let work = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_hangs_keeps_its_place_when_nobody_waits_for_it_any_more() {
        let lane = Lane::new(2);
        let (release, hanging) = mpsc::channel::<()>();
        let hanging = Arc::new(std::sync::Mutex::new(hanging));
        let begun = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let (hanging, begun) = (hanging.clone(), begun.clone());
            let hangs = lane.run(move || {
                begun.fetch_add(1, SeqCst);
                let _ = hanging.lock().map(|hanging| hanging.recv());
            });
            // The first two give up while they hang, the others while they wait for a place.
            timeout(Duration::from_millis(5), hangs).await.unwrap_err();
        }
        assert_eq!(Lane::new(1).run(|| 7).await.unwrap(), 7, "another lane is not concerned");
        drop(release);
        assert_eq!(lane.run(|| 8).await.unwrap(), 8);
        assert_eq!(begun.load(SeqCst), 2);
    }
}
