//! So many bytes a second.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Closed;

/// Who reads waits here before each read.
pub(super) struct Pace {
    rate: watch::Receiver<u64>,
    /// When what was let through so far has had its time.
    next: Instant,
}

impl Pace {
    pub(super) fn new(rate: watch::Receiver<u64>) -> Self {
        Self { rate, next: Instant::now() }
    }

    /// Waits until so many bytes more can be read.
    pub(super) async fn wait(&mut self, bytes: u64) -> Result<(), Closed> {
        loop {
            let rate = *self.rate.borrow();
            let sleep = async {
                match rate {
                    0 => std::future::pending().await,
                    _ => sleep_until(self.next).await,
                }
            };
            tokio::select! {
                () = sleep => {
                    let time = Duration::from_secs_f64(bytes as f64 / rate as f64);
                    self.next = self.next.max(Instant::now()) + time;
                    return Ok(());
                }
                set = self.rate.changed() => {
                    set.map_err(|_| Closed)?;
                    self.next = Instant::now();
                }
            }
        }
    }

    /// Waits until somebody sets a rate.
    pub(super) async fn changed(&mut self) -> Result<(), Closed> {
        self.rate.changed().await.map_err(|_| Closed)
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_bytes_a_second_than_were_allowed() {
        let rate = watch::Sender::new(1000);
        let mut pace = Pace::new(rate.subscribe());
        let start = Instant::now();
        for _ in 0..10 {
            assert!(pace.wait(500).await.is_ok());
        }
        assert_eq!(start.elapsed(), Duration::from_millis(4500), "the first goes at once");
        rate.send_replace(0);
        let waiting = tokio::spawn(async move {
            let waited = pace.wait(500).await;
            (pace, waited.is_ok())
        });
        tokio::time::sleep(Duration::from_secs(1_000_000)).await;
        assert!(!waiting.is_finished(), "nothing is allowed");
        rate.send_replace(u64::MAX);
        let (mut pace, waited) = waiting.await.expect("waits");
        assert!(waited);
        drop(rate);
        assert!(pace.changed().await.is_err());
    }
}
