//! Reading that survives what passes.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use granary_image::Pin;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{ByteStream, Source, SourceError};

/// How long and how often a read is tried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// From the first request, or from the last bytes that came, to giving up: a stream that is slow is not cut off.
    pub deadline: Duration,
    /// Longest wait for an answer or for the next chunk of it.
    pub stall: Duration,
    /// Wait before the second try; doubles with each further one that brought nothing, and is drawn between half and all of it.
    pub first_backoff: Duration,
    /// Longest wait between two tries.
    pub max_backoff: Duration,
    /// How often a refusal of the credentials is tried again: services answer so for a moment after keys were rotated, and
    /// some under load, but mostly it is meant.
    pub refusals: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60),
            stall: Duration::from_secs(15),
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            refusals: 3,
        }
    }
}

/// Reads `range` of an object, as [`Source::read`] does, but goes on where the stream broke, under the same pin. Ends with an
/// error that no further try can help, or with the last one when the deadline has passed.
pub fn read_retrying(
    source: Arc<Source>,
    key: String,
    pin: Pin,
    size: u64,
    range: Range<u64>,
    policy: RetryPolicy,
) -> ByteStream {
    let key: Arc<str> = key.into();
    let pin = Arc::new(pin);
    let timed = source.clone();
    let open = move |range| {
        let (source, key, pin) = (source.clone(), key.clone(), pin.clone());
        async move { source.read(&key, &pin, size, range).await }
    };
    retrying(open, move || timed.timed_out(), range, policy)
}

/// Tries of a small request, such as one page of a listing.
const SMALL_TRIES: u32 = 4;
const SMALL_BACKOFF: Duration = Duration::from_millis(200);

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
            Err(error @ (SourceError::Unavailable { .. } | SourceError::Timeout { .. })) if tries < SMALL_TRIES => {
                tracing::debug!(%error, tries, "a request is made again");
                sleep(jittered(SMALL_BACKOFF * 2_u32.pow(tries - 1))).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Between half and all of `most`, so that those who failed together do not come back together.
fn jittered(most: Duration) -> Duration {
    most.mul_f64(rand::random_range(0.5..=1.0))
}

/// `stalled` makes the error of a wait that brought nothing.
fn retrying<F, Fut, S>(open: F, stalled: S, range: Range<u64>, policy: RetryPolicy) -> ByteStream
where
    F: Fn(Range<u64>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<ByteStream, SourceError>> + Send + 'static,
    S: Fn() -> SourceError + Send + 'static,
{
    let deadline = Instant::now() + policy.deadline;
    let read = Read {
        open,
        stalled,
        left: range,
        policy,
        deadline,
        body: None,
        body_gave: false,
        fruitless: 0,
        refusals: 0,
        last: None,
    };
    stream::try_unfold(read, |mut read| async move { Ok(read.next().await?.map(|chunk| (chunk, read))) }).boxed()
}

struct Read<F, S> {
    open: F,
    stalled: S,
    left: Range<u64>,
    policy: RetryPolicy,
    deadline: Instant,
    body: Option<ByteStream>,
    /// Whether bytes of `body` were given out.
    body_gave: bool,
    /// Tries since bytes came last.
    fruitless: u32,
    refusals: u32,
    last: Option<SourceError>,
}

impl<F, Fut, S> Read<F, S>
where
    F: Fn(Range<u64>) -> Fut,
    Fut: Future<Output = Result<ByteStream, SourceError>>,
    S: Fn() -> SourceError,
{
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            let before = self.deadline.min(Instant::now() + self.policy.stall);
            let step = match timeout_at(before, self.step()).await {
                Ok(step) => step,
                Err(_) => Err(self.timed_out()),
            };
            match step {
                Ok(Some(chunk)) => {
                    self.left.start += chunk.len() as u64;
                    self.body_gave = true;
                    self.fruitless = 0;
                    self.deadline = Instant::now() + self.policy.deadline;
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                // All that was wanted is there; only whether the body ends is not known. A longer one still is an error.
                Err(error) if self.left.is_empty() && !matches!(error, SourceError::BadAnswer { .. }) => {
                    return Ok(None);
                }
                Err(error) => self.recover(error).await?,
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>, SourceError> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                self.body_gave = false;
                self.body.insert((self.open)(self.left.clone()).await?)
            }
        };
        body.next().await.transpose()
    }

    /// Waits until it makes sense to go on, or gives the error back.
    async fn recover(&mut self, error: SourceError) -> Result<(), SourceError> {
        let refused = matches!(error, SourceError::CredentialsRejected { .. });
        self.refusals += u32::from(refused);
        // What the same answer gave before it turned out to be wrong cannot be taken back, so nothing may follow it.
        let tainted = self.body_gave && matches!(error, SourceError::BadAnswer { .. });
        let again = if refused { self.refusals <= self.policy.refusals } else { error.is_retryable() };
        let wait = self.backoff();
        if tainted || !again || Instant::now() + wait >= self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, ?wait, "a read is tried again");
        self.body = None;
        self.fruitless += 1;
        self.last = Some(error);
        sleep(wait).await;
        Ok(())
    }

    /// A try that only the deadline has cut short says less than the one before it.
    fn timed_out(&mut self) -> SourceError {
        let timeout = (self.stalled)();
        let last = self.last.take().filter(|_| Instant::now() >= self.deadline);
        last.unwrap_or(timeout)
    }

    fn backoff(&self) -> Duration {
        let most = self.policy.first_backoff.saturating_mul(1 << self.fruitless.min(16)).min(self.policy.max_backoff);
        jittered(most)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use super::*;

    const OBJECT: &[u8] = b"0123456789";

    /// What one try does: gives so many bytes, then ends with the error or hangs.
    type Try = (usize, Option<SourceError>);

    fn unavailable() -> SourceError {
        SourceError::Unavailable { uri: String::new(), detail: "broke".to_owned() }
    }

    fn rejected() -> SourceError {
        SourceError::CredentialsRejected { uri: String::new(), detail: "HTTP 403".to_owned() }
    }

    fn bad() -> SourceError {
        SourceError::BadAnswer { uri: String::new(), key: String::new(), detail: "longer".to_owned() }
    }

    fn timeout() -> SourceError {
        SourceError::Timeout { uri: String::new(), detail: "nothing came".to_owned() }
    }

    fn gone() -> SourceError {
        SourceError::ObjectNotFound { uri: String::new(), key: String::new() }
    }

    /// Reads the object by these tries; further ones give everything. Returns what came, and the ranges asked for.
    async fn run(tries: impl IntoIterator<Item = Try>) -> (Result<Vec<u8>, SourceError>, Vec<Range<u64>>) {
        let tries = Mutex::new(tries.into_iter().collect::<VecDeque<_>>());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let open = move |range: Range<u64>| {
            log.lock().unwrap().push(range.clone());
            let next = tries.lock().unwrap().pop_front();
            async move {
                let wanted = &OBJECT[range.start as usize..range.end as usize];
                let (given, end) = match next {
                    None => (wanted.len(), stream::empty().boxed()),
                    Some((0, Some(error))) => return Err(error),
                    Some((given, Some(error))) => (given, stream::iter([Err(error)]).boxed()),
                    Some((given, None)) => (given, stream::pending().boxed()),
                };
                let chunks = wanted[..given].chunks(2).map(|chunk| Ok(Bytes::from_static(chunk)));
                Ok(stream::iter(chunks.collect::<Vec<_>>()).chain(end).boxed())
            }
        };
        let chunks: Vec<_> = retrying(open, timeout, 0..10, RetryPolicy::default()).collect().await;
        let bytes = chunks.into_iter().collect::<Result<Vec<Bytes>, _>>().map(|chunks| chunks.concat());
        let asked = asked.lock().unwrap().clone();
        (bytes, asked)
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

    #[tokio::test(start_paused = true)]
    async fn goes_on_where_it_broke() {
        let (bytes, asked) = run([(0, Some(unavailable())), (4, Some(unavailable())), (2, None)]).await;
        assert_eq!(bytes.unwrap(), OBJECT);
        assert_eq!(asked, [0..10, 0..10, 4..10, 6..10]);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_deadline_with_the_last_error() {
        let started = Instant::now();
        let (bytes, asked) = run(std::iter::repeat_n((0, Some(unavailable())), 1000)).await;
        assert_eq!(bytes.unwrap_err(), unavailable());
        assert!(started.elapsed() <= RetryPolicy::default().deadline);
        assert!((10..60).contains(&asked.len()), "{}", asked.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_ends_in_time() {
        let started = Instant::now();
        let (bytes, asked) = run(std::iter::repeat_n((0, None), 1000)).await;
        assert_eq!(bytes.unwrap_err().reason(), "SourceTimeout");
        assert!(started.elapsed() <= RetryPolicy::default().deadline);
        assert_eq!(asked.len(), 4);
    }

    /// Reads ten bytes from a source that gives so many, each just before its stall, and then nothing more.
    async fn read_slowly(given: usize, pace: Duration) -> (usize, bool, Duration) {
        let open = move |range: Range<u64>| async move {
            let chunks = stream::iter(0..given).then(move |_| async move {
                sleep(pace).await;
                Ok(Bytes::from_static(b"x"))
            });
            let silent = stream::pending().boxed();
            Ok(if range.start == 0 { chunks.chain(silent).boxed() } else { silent })
        };
        let started = Instant::now();
        let chunks = retrying(open, timeout, 0..10, RetryPolicy::default()).take(10).collect::<Vec<_>>().await;
        let came = chunks.iter().filter(|chunk| chunk.is_ok()).count();
        (came, came == chunks.len(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_from_the_last_progress() {
        let policy = RetryPolicy::default();
        let pace = policy.stall - Duration::from_secs(1);
        let (came, whole, took) = read_slowly(10, pace).await;
        assert!((came, whole) == (10, true) && took > policy.deadline, "{came} {took:?}");
        let (came, whole, took) = read_slowly(5, pace).await;
        assert!((came, whole) == (5, false) && took <= 5 * pace + policy.deadline, "{came} {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_heal_is_final() {
        let (bytes, asked) = run([(4, Some(gone()))]).await;
        assert_eq!((bytes.unwrap_err(), asked.len()), (gone(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_tried_a_few_times_only() {
        let (bytes, asked) = run([(0, Some(rejected())), (4, Some(rejected())), (0, Some(rejected()))]).await;
        assert_eq!((bytes.unwrap(), asked.len()), (OBJECT.to_vec(), 4));
        let (bytes, asked) = run(std::iter::repeat_n((0, Some(rejected())), 10)).await;
        assert_eq!((bytes.unwrap_err(), asked.len()), (rejected(), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_follows_bytes_of_a_wrong_answer() {
        let (bytes, asked) = run([(4, Some(bad()))]).await;
        assert_eq!((bytes.unwrap_err(), asked.len()), (bad(), 1));
        let (bytes, asked) = run([(0, Some(bad()))]).await;
        assert_eq!((bytes.unwrap(), asked.len()), (OBJECT.to_vec(), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_breaks_after_the_last_byte_is_an_end() {
        let (bytes, asked) = run([(10, Some(unavailable()))]).await;
        assert_eq!((bytes.unwrap(), asked.len()), (OBJECT.to_vec(), 1));
    }
}
