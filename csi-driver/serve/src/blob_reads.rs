//! Answers to the kernel's reads, from a blob.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use fuser::{Errno, ReplyData};
use granary_blob::{Blob, ReadError};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::buffers::{Buffer, Buffers, Share};

/// What all blobs of a node are read with.
pub(crate) struct Readers {
    buffers: Arc<Buffers>,
    runtime: Handle,
    /// Set when reads may be answered.
    begun: Arc<OnceLock<()>>,
}

/// Reads of one blob, for one FUSE session.
pub(crate) struct BlobReads {
    blob: Arc<Blob>,
    buffers: Share,
    runtime: Handle,
    begun: Arc<OnceLock<()>>,
    stage: watch::Receiver<Stage>,
}

/// How far a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Every read fails.
    Ended,
    /// A successor answers.
    Left,
}

/// Ends the reads that it came with when it is dropped: those that wait for a source fail, and all to come. Nobody shall be
/// held up by what is served no more.
pub(crate) struct Service(watch::Sender<Stage>);

impl Service {
    /// Answers no more reads, those included that wait for a source: the kernel asks a successor. It does so when this process
    /// has ended.
    pub(crate) fn leave(&self) {
        self.0.send_replace(Stage::Left);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.send_if_modified(|stage| {
            let is_serving = *stage == Stage::Serving;
            if is_serving {
                *stage = Stage::Ended;
            }
            is_serving
        });
    }
}

/// Where the answer to a read goes.
pub(crate) trait Answer: Send + 'static {
    fn data(self, bytes: &[u8]);
    fn error(self, error: Errno);
    /// It is a successor's to give.
    fn leave(self);
}

impl Answer for ReplyData {
    fn data(self, bytes: &[u8]) {
        self.data(bytes);
    }

    fn error(self, error: Errno) {
        self.error(error);
    }

    fn leave(self) {
        // `fuser` would answer for us.
        std::mem::forget(self);
    }
}

/// An answer that is owed. If it is dropped it is an error, or left to a successor.
struct Owed<A: Answer> {
    reply: Option<A>,
    stage: watch::Receiver<Stage>,
}

impl<A: Answer> Owed<A> {
    fn give(mut self, bytes: &[u8]) {
        if let Some(reply) = self.reply.take() {
            reply.data(bytes);
        }
    }
}

impl<A: Answer> Drop for Owed<A> {
    fn drop(&mut self) {
        let Some(reply) = self.reply.take() else { return };
        match *self.stage.borrow() {
            Stage::Left => reply.leave(),
            Stage::Serving | Stage::Ended => reply.error(Errno::EIO),
        }
    }
}

impl Readers {
    /// Reads by them wait until [`Self::begin`].
    pub(crate) fn new(longest: usize, runtime: Handle) -> Self {
        Self { buffers: Buffers::new(longest), runtime, begun: Arc::default() }
    }

    /// All versions that a predecessor has mounted are known: before that a read may be of one whose part of the blob, or
    /// whose sources, nobody has told yet.
    pub(crate) fn begin(&self) {
        self.begun.get_or_init(|| ());
    }

    /// Reads of `blob` for one session.
    pub(crate) fn of(&self, blob: &Arc<Blob>) -> (BlobReads, Service) {
        let (service, stage) = watch::channel(Stage::Serving);
        let (blob, buffers) = (blob.clone(), self.buffers.share());
        let reads = BlobReads { blob, buffers, runtime: self.runtime.clone(), begun: self.begun.clone(), stage };
        (reads, Service(service))
    }
}

impl BlobReads {
    /// Answers with `len` bytes from `offset` of the blob, in full or with `EIO`: the kernel would take a short answer for the
    /// end of the file and fill up with zeros.
    pub(crate) fn answer(&self, offset: u64, len: usize, reply: impl Answer) {
        self.begun.wait();
        let owed = Owed { reply: Some(reply), stage: self.stage.clone() };
        let buf = self.buffers.take(len).filter(|_| *self.stage.borrow() == Stage::Serving);
        let Some(mut buf) = buf else { return };
        match self.blob.read_cached(offset, &mut buf) {
            Ok(true) => owed.give(&buf),
            Ok(false) => self.answer_later(offset, buf, owed),
            Err(error) => warn(offset, len, &error),
        }
    }

    fn answer_later(&self, offset: u64, mut buf: Buffer, owed: Owed<impl Answer>) {
        let (blob, mut stage) = (self.blob.clone(), self.stage.clone());
        self.runtime.spawn(async move {
            let result = tokio::select! {
                result = blob.read(offset, &mut buf) => result,
                // An error means that the sender is gone, and with it the service.
                _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
            };
            match result {
                Ok(()) => owed.give(&buf),
                Err(error) => warn(offset, buf.len(), &error),
            }
        });
    }
}

fn warn(offset: u64, len: usize, error: &ReadError) {
    /// Second, since the first failure, of the last warning: a reader that tries again and again must not fill the log.
    static WARNED: AtomicU64 = AtomicU64::new(u64::MAX);
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let now = FIRST.elapsed().as_secs();
    if WARNED.swap(now, Ordering::Relaxed) == now {
        tracing::debug!(offset, len, reason = error.reason(), %error, "a read of a blob failed");
    } else {
        tracing::warn!(offset, len, reason = error.reason(), %error, "a read of a blob failed");
    }
}
