//! Reading that survives what passes.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use granary_image::Pin;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{ByteStream, RetryPolicy, Source, SourceError, breaker::Trial, health::Health, retry_policy::jittered};

/// Reads `range` of an object, as [`Source::read`] does, but goes on where the stream broke, under the same pin. Ends with an
/// error that no further try can help, or with the last one when the deadline has passed; at once if the source is left alone.
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
    let health = source.health().clone();
    let open = move |range| {
        let (source, key, pin) = (source.clone(), key.clone(), pin.clone());
        async move { source.read(&key, &pin, size, range).await }
    };
    retrying(open, health, range, policy)
}

fn retrying<F, Fut>(open: F, health: Arc<Health>, range: Range<u64>, policy: RetryPolicy) -> ByteStream
where
    F: Fn(Range<u64>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<ByteStream, SourceError>> + Send + 'static,
{
    let now = Instant::now();
    let read = Read {
        open,
        health,
        left: range,
        deadline: now + policy.deadline,
        given_at: now,
        policy,
        trial: None,
        body: None,
        body_gave: false,
        window: Window::default(),
        fruitless: 0,
        refusals: 0,
        last: None,
    };
    stream::try_unfold(read, |mut read| async move { Ok(read.next().await?.map(|chunk| (chunk, read))) }).boxed()
}

struct Read<F> {
    open: F,
    health: Arc<Health>,
    left: Range<u64>,
    policy: RetryPolicy,
    deadline: Instant,
    /// When bytes were given out last: the time until more are asked for is the reader's own.
    given_at: Instant,
    /// The present try, until it has brought something.
    trial: Option<Trial>,
    body: Option<ByteStream>,
    /// Whether bytes of `body` were given out.
    body_gave: bool,
    window: Window,
    /// Tries since the last progress.
    fruitless: u32,
    refusals: u32,
    last: Option<SourceError>,
}

/// What came since the last progress, or since the present try began.
#[derive(Default)]
struct Window {
    bytes: u64,
    waited: Duration,
}

/// A reader that leaves tells nothing about the source, and must not keep others from finding out.
impl<F> Drop for Read<F> {
    fn drop(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.health.left(trial);
        }
    }
}

impl<F, Fut> Read<F>
where
    F: Fn(Range<u64>) -> Fut,
    Fut: Future<Output = Result<ByteStream, SourceError>>,
{
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        let mut begun = Instant::now();
        self.deadline += begun - self.given_at;
        loop {
            let patience = self.policy.stall.saturating_sub(self.window.waited);
            let step = match timeout_at(self.deadline.min(begun + patience), self.step()).await {
                Ok(step) => step,
                Err(_) => Err(self.timed_out()),
            };
            match step {
                Ok(Some(chunk)) => {
                    self.came(chunk.len() as u64, begun);
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                // All that was wanted is there; only whether the body ends is not known. A wrong one still is an error.
                Err(error) if self.left.is_empty() && !error.is_wrong() => return Ok(None),
                Err(error) => {
                    if let Some(trial) = self.trial.take() {
                        self.health.failed(trial, &error, &self.policy);
                    }
                    self.recover(error).await?;
                    begun = Instant::now();
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>, SourceError> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                self.body_gave = false;
                self.trial = Some(self.health.admit(&self.policy)?);
                self.body.insert((self.open)(self.left.clone()).await?)
            }
        };
        body.next().await.transpose()
    }

    fn came(&mut self, bytes: u64, begun: Instant) {
        let now = Instant::now();
        self.given_at = now;
        self.body_gave = true;
        self.left.start += bytes;
        self.window.bytes += bytes;
        self.window.waited += now - begun;
        if self.window.bytes >= self.policy.least_bytes || self.left.is_empty() {
            self.window = Window::default();
            self.fruitless = 0;
            self.deadline = now + self.policy.deadline;
            if self.trial.take().is_some() {
                self.health.gave();
            }
        }
    }

    /// Waits until it makes sense to go on, or gives the error back.
    async fn recover(&mut self, error: SourceError) -> Result<(), SourceError> {
        let is_wrong = error.is_wrong();
        let refused = is_wrong || matches!(error, SourceError::CredentialsRejected { .. });
        self.refusals += u32::from(refused);
        let again = if refused { self.refusals <= self.policy.refusals } else { error.is_retryable() };
        // What the same answer gave before it turned out to be wrong cannot be taken back, so nothing may follow it.
        let tainted = self.body_gave && is_wrong;
        if !again || tainted {
            return Err(error);
        }
        let room = self.deadline.saturating_duration_since(Instant::now());
        let backoff = self.backoff();
        let turn = if backoff < room { self.health.turn(room) } else { None };
        let Some(wait) = turn.map(|turn| turn.max(backoff)).filter(|wait| *wait < room) else { return Err(error) };
        tracing::debug!(%error, ?wait, "a read is tried again");
        self.body = None;
        self.window = Window::default();
        self.fruitless += 1;
        self.last = Some(error);
        sleep(wait).await;
        Ok(())
    }

    /// A try that only the deadline has cut short says less than the one before it.
    fn timed_out(&mut self) -> SourceError {
        let timeout = self.health.timed_out();
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
    use crate::slowdowns::Slowdowns;

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

    fn health() -> Arc<Health> {
        Arc::new(Health::new("", Slowdowns::default()))
    }

    fn gone() -> SourceError {
        SourceError::ObjectNotFound { uri: String::new(), key: String::new() }
    }

    /// Reads the object by these tries; further ones give everything. Returns what came, and the ranges asked for.
    async fn run(tries: impl IntoIterator<Item = Try>) -> (Result<Vec<u8>, SourceError>, Vec<Range<u64>>) {
        run_with(&health(), tries).await
    }

    /// The same at a source whose readers have seen something already.
    async fn run_with(
        health: &Arc<Health>,
        tries: impl IntoIterator<Item = Try>,
    ) -> (Result<Vec<u8>, SourceError>, Vec<Range<u64>>) {
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
        let chunks: Vec<_> = retrying(open, health.clone(), 0..10, RetryPolicy::default()).collect().await;
        let bytes = chunks.into_iter().collect::<Result<Vec<Bytes>, _>>().map(|chunks| chunks.concat());
        let asked = asked.lock().unwrap().clone();
        (bytes, asked)
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

    /// Reads ten bytes from a source that gives so many, this long after each other, and then nothing more.
    async fn read_slowly(given: usize, pace: Duration, policy: RetryPolicy) -> (usize, bool, Duration) {
        let open = move |range: Range<u64>| async move {
            let chunks = stream::iter(0..given).then(move |_| async move {
                sleep(pace).await;
                Ok(Bytes::from_static(b"x"))
            });
            let silent = stream::pending().boxed();
            Ok(if range.start == 0 { chunks.chain(silent).boxed() } else { silent })
        };
        let started = Instant::now();
        let chunks = retrying(open, health(), 0..10, policy).take(10).collect::<Vec<_>>().await;
        let came = chunks.iter().filter(|chunk| chunk.is_ok()).count();
        (came, came == chunks.len(), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_counts_from_the_last_progress() {
        let policy = RetryPolicy { least_bytes: 1, ..RetryPolicy::DEFAULT };
        let pace = policy.stall - Duration::from_secs(1);
        let (came, whole, took) = read_slowly(10, pace, policy).await;
        assert!((came, whole) == (10, true) && took > policy.deadline, "{came} {took:?}");
        let (came, whole, took) = read_slowly(5, pace, policy).await;
        assert!((came, whole) == (5, false) && took <= 5 * pace + policy.deadline, "{came} {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_drips_is_no_progress() {
        let policy = RetryPolicy { least_bytes: 5, ..RetryPolicy::DEFAULT };
        let (came, whole, _) = read_slowly(10, policy.stall / 6, policy).await;
        assert_eq!((came, whole), (10, true));
        // One byte after the other comes in time, but not five.
        let (came, whole, took) = read_slowly(10, policy.stall / 4, policy).await;
        assert!(came < 5 && !whole && took <= policy.deadline, "{came} {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_reader_takes_is_not_the_sources_fault() {
        let policy = RetryPolicy::DEFAULT;
        let open = move |_| async move {
            let chunks = stream::iter(0..10).then(|_| async {
                sleep(Duration::from_secs(1)).await;
                Ok(Bytes::from_static(b"x"))
            });
            Ok(chunks.boxed())
        };
        let mut body = retrying(open, health(), 0..10, policy);
        for _ in 0..10 {
            sleep(policy.deadline).await;
            body.next().await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readers_of_a_source_that_failed_for_long_are_told_at_once_until_it_answers() {
        let health = health();
        let failing = || std::iter::repeat_n((0, Some(unavailable())), 1000);
        assert_eq!(run_with(&health, failing()).await.0.unwrap_err(), unavailable());
        sleep(RetryPolicy::DEFAULT.max_backoff).await;
        let (bytes, asked) = run_with(&health, failing()).await;
        assert_eq!((bytes.unwrap_err().reason(), asked.len()), ("SourceDown", 1), "the last straw");
        let started = Instant::now();
        let (bytes, asked) = run_with(&health, []).await;
        assert_eq!((asked.len(), started.elapsed()), (0, Duration::ZERO));
        let text = bytes.unwrap_err().to_string();
        assert!(text.contains("broke") && text.contains("tried again at 2"), "{text}");
        sleep(RetryPolicy::DEFAULT.first_pause).await;
        assert_eq!(run_with(&health, []).await.0.unwrap(), OBJECT);
        assert_eq!(run_with(&health, [(0, Some(unavailable()))]).await.0.unwrap(), OBJECT, "it is patient again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_while_it_tries_lets_the_next_one_try() {
        let health = health();
        let failing = || std::iter::repeat_n((0, Some(unavailable())), 1000);
        run_with(&health, failing()).await.0.unwrap_err();
        sleep(RetryPolicy::DEFAULT.max_backoff).await;
        run_with(&health, failing()).await.0.unwrap_err();
        sleep(RetryPolicy::DEFAULT.first_pause).await;
        tokio::time::timeout(Duration::from_secs(1), run_with(&health, [(0, None)])).await.unwrap_err();
        assert_eq!(run_with(&health, []).await.0.unwrap(), OBJECT);
    }

    #[tokio::test(start_paused = true)]
    async fn many_readers_make_a_bounded_number_of_requests() {
        let health = health();
        let failing = || std::iter::repeat_n((0, Some(unavailable())), 1000);
        let readers = (0..200).map(|_| run_with(&health, failing()));
        let asked: usize = futures::future::join_all(readers).await.iter().map(|(_, asked)| asked.len()).sum();
        // Each once, a burst, and some a second for a minute.
        assert!((1000..=200 + 128 + 16 * 60).contains(&asked), "{asked}");
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
        let (bytes, asked) = run(std::iter::repeat_n((0, Some(bad())), 10)).await;
        assert_eq!((bytes.unwrap_err(), asked.len()), (bad(), 4), "a server that always gives wrong answers means it");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_breaks_after_the_last_byte_is_an_end() {
        let (bytes, asked) = run([(10, Some(unavailable()))]).await;
        assert_eq!((bytes.unwrap(), asked.len()), (OBJECT.to_vec(), 1));
    }
}
