//! The thread that reads for the scrub, one part at a time and after everybody else.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

use crate::store::{Look, Seen, Store};

/// The lowest priority of a thread: for the processor, and, as long as nobody says otherwise, for the disk.
const NICE: i32 = 19;

struct Question {
    store: Arc<Store>,
    part: u64,
    answer: oneshot::Sender<Seen>,
}

/// The thread; it ends with this.
pub(super) struct Eye(Sender<Question>);

impl Eye {
    pub(super) fn open() -> io::Result<Self> {
        let (sender, questions) = channel::<Question>();
        std::thread::Builder::new().name("scrub".to_owned()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
                tracing::debug!(%error, "what is cached is checked with the priority of all else");
            }
            for Question { store, part, answer } in questions {
                // Who asked may have gone.
                let _ = answer.send(store.look_at(part, Look::Disk));
            }
        })?;
        Ok(Self(sender))
    }

    /// What is on the disk of a part. `None` if the thread has ended.
    pub(super) async fn look(&self, store: Arc<Store>, part: u64) -> Option<Seen> {
        let (answer, seen) = oneshot::channel();
        self.0.send(Question { store, part, answer }).ok()?;
        seen.await.ok()
    }
}
