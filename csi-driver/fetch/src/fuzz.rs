//! Entries of the fuzz targets in `fuzz/`, and there only: what a source's settings and a source's answers can be.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::Component,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use granary_image::{Pin, PinKind};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    runtime::{Builder, Runtime},
};

use crate::{
    NoCredentials, PinBy, S3Options, Source, SourceConfig, SourceError, SourcePolicy,
    glob::KeyFilter,
    uri::{Location, Place, has_dot_segments},
};

/// Parses a URI, and checks that what comes of it stays where it was said to be.
pub fn uri(text: &str) {
    match Location::parse(text) {
        Ok(location) => {
            location.object_name();
            check_location(&location);
        }
        Err(error) => check_silence(text, &error),
    }
}

fn check_location(location: &Location) {
    match location {
        Location::S3 { bucket, place } => {
            assert!(!bucket.is_empty() && !bucket.contains(['/', '@', '?', '#', '%']));
            let (Place::Prefix(key) | Place::Object(key)) = place;
            assert!(!key.starts_with('/') && !has_dot_segments(key));
        }
        Location::Http { url, .. } => {
            assert!(matches!(url.scheme(), "http" | "https") && url.host().is_some());
            assert!(url.username().is_empty() && url.password().is_none());
            assert!(url.query().is_none() && url.fragment().is_none());
        }
        Location::File { path } => {
            assert!(path.is_absolute() && !path.components().any(|part| part == Component::ParentDir));
        }
    }
}

/// What stands before the '@' of a URI is no part of a message.
fn check_silence(text: &str, error: &SourceError) {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((secret, _)) = authority.rsplit_once('@') else { return };
    let secret = format!("{secret}@");
    if secret.len() > 1 && text.matches(&secret).count() == 1 {
        assert!(!error.to_string().contains(&secret), "{error}");
    }
}

/// Compares `key` with patterns, if they are patterns.
pub fn globs(include: &[&str], exclude: &[&str], key: &str) {
    let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let config = SourceConfig { include: owned(include), exclude: owned(exclude), ..Default::default() };
    let Ok(filter) = KeyFilter::new(&config) else { return };
    let none = SourceConfig { include: Vec::new(), ..config };
    let without_include = KeyFilter::new(&none).expect("they were patterns before");
    assert!(
        !filter.lets_through(key) || without_include.lets_through(key),
        "include lets through what exclude does not"
    );
}

/// What a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// For the objects of a bucket.
    List,
    /// For those of a bucket with versions.
    ListVersions,
    /// For one object of a bucket.
    Stat,
    /// For a file of an HTTP server.
    Head,
    /// For a range, pinned by its entity tag.
    ReadTagged,
    /// For a range of a version.
    ReadVersion,
    /// For a range, pinned by the time of its last change.
    ReadModified,
    /// For an object of which only the size is known.
    ReadWhole,
}

/// Connections that a question may make: a source can go on answering for ever.
const CONNECTIONS: u32 = 20;
/// Of the object that is read.
const SIZE: u64 = 100;

thread_local! {
    /// What every connection of this thread answers, and how many may still be made.
    static ANSWER: RefCell<Option<(Bytes, u32)>> = const { RefCell::new(None) };
}

/// Asks a source whose server sends `answer` over every connection, whatever it is asked.
pub fn ask(question: Question, answer: &[u8]) {
    thread_local! {
        static SOURCES: RefCell<HashMap<Question, Arc<Source>>> = RefCell::default();
        // A clock that stands still until all wait for it: nothing here waits for anything else.
        static RUNTIME: Runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    }
    ANSWER.set(Some((Bytes::copy_from_slice(answer), CONNECTIONS)));
    let source = SOURCES.with_borrow_mut(|known| known.entry(question).or_insert_with(|| source(question)).clone());
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            match question {
                Question::List | Question::ListVersions | Question::Stat | Question::Head => list(&source).await,
                Question::ReadTagged => read(&source, PinKind::ETag, "\"e\"", 10..20).await,
                Question::ReadVersion => read(&source, PinKind::VersionId, "v", 10..20).await,
                Question::ReadModified => {
                    read(&source, PinKind::ModificationTime, "2024-05-01T10:00:00Z", 10..20).await
                }
                Question::ReadWhole => read(&source, PinKind::SizeOnly, "", 0..SIZE).await,
            }
        });
    });
}

fn source(question: Question) -> Arc<Source> {
    let uri = match question {
        Question::List | Question::ListVersions => "s3://bucket/p/",
        Question::Stat => "s3://bucket/p/object",
        Question::Head | Question::ReadModified | Question::ReadWhole => "http://server/file",
        Question::ReadTagged | Question::ReadVersion => "s3://bucket",
    };
    let pin_by = if question == Question::ListVersions { PinBy::VersionID } else { PinBy::ETag };
    let s3 = S3Options { endpoint: Some("http://store".to_owned()), pin_by, ..Default::default() };
    let config = SourceConfig { uri: uri.to_owned(), s3, ..Default::default() };
    static POLICY: LazyLock<Arc<SourcePolicy>> = LazyLock::new(Arc::default);
    Source::open(&config, Arc::new(NoCredentials), POLICY.clone()).expect("the settings are right")
}

async fn list(source: &Source) {
    let mut listing = source.list();
    while let Ok(Some(listed)) = listing.try_next().await {
        assert!(listed.pin.kind == PinKind::SizeOnly || !listed.pin.value.is_empty());
    }
}

/// What is read is exactly as long as was asked for, or an error.
async fn read(source: &Source, kind: PinKind, value: &str, range: std::ops::Range<u64>) {
    let pin = Pin { kind, value: value.to_owned() };
    let Ok(mut stream) = source.read("k", &pin, SIZE, range.clone()).await else { return };
    let mut length = 0;
    loop {
        match stream.try_next().await {
            Ok(Some(chunk)) => length += chunk.len() as u64,
            Ok(None) => break assert_eq!(length, range.end - range.start),
            Err(_) => break assert!(length <= range.end - range.start),
        }
    }
}

/// In place of a connection, on a thread that asks.
pub(crate) fn connection() -> Option<TokioIo<DuplexStream>> {
    let answer = ANSWER.with_borrow_mut(|answer| {
        let (answer, left) = answer.as_mut()?;
        // One connection too many breaks at once.
        let is_left = *left > 0;
        *left = left.saturating_sub(1);
        Some(is_left.then(|| answer.clone()))
    })?;
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        // Whoever asked may be gone before the answer's end; then there is nobody to tell.
        let _ = theirs.read(&mut [0; 4096]).await;
        if let Some(answer) = answer {
            let _ = theirs.write_all(&answer).await;
        }
    });
    Some(TokioIo::new(ours))
}
