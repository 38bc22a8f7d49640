//! Small requests that survive what passes.

use std::time::Duration;

use tokio::time::sleep;

use crate::{SourceError, retry_policy::jittered};

/// Tries of a small request, such as one page of a listing.
const TRIES: u32 = 4;
const BACKOFF: Duration = Duration::from_millis(200);

/// Makes a small request, and makes it again when its source fails for a moment: a listing of thousands of pages would seldom
/// be completed otherwise. What no connection can be made to is left to the caller, who has more time.
pub(crate) async fn patiently<T, F, Fut>(ask: F) -> Result<T, SourceError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, SourceError>>,
{
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error @ (SourceError::Unavailable { .. } | SourceError::Timeout { .. })) if tries < TRIES => {
                tracing::debug!(%error, tries, "a request is made again");
                sleep(jittered(BACKOFF * 2_u32.pow(tries - 1))).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn unavailable() -> SourceError {
        SourceError::Unavailable { uri: String::new(), detail: "broke".to_owned() }
    }

    fn gone() -> SourceError {
        SourceError::ObjectNotFound { uri: String::new(), key: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_request_is_made_a_few_times() {
        let asked = Mutex::new(0);
        let ask = |error: fn() -> SourceError, failures| {
            *asked.lock().unwrap() = 0;
            let asked = &asked;
            patiently(move || async move {
                let mut asked = asked.lock().unwrap();
                *asked += 1;
                if *asked > failures { Ok(*asked) } else { Err(error()) }
            })
        };
        assert_eq!(ask(unavailable, 3).await, Ok(4));
        assert_eq!(ask(unavailable, 4).await, Err(unavailable()));
        assert_eq!(ask(gone, 1).await, Err(gone()));
    }
}
