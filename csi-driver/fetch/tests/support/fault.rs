//! What can be wrong with an answer.

use std::sync::Arc;

use tokio::sync::Notify;

#[derive(Clone, Debug)]
pub enum Fault {
    None,
    Status(u16),
    /// Gives the whole object although a range was asked for.
    IgnoreRange,
    /// Gives the object that is there now, whatever was asked for.
    IgnoreCondition,
    /// Another range than the one asked for, said honestly.
    OtherRange,
    WrongETag,
    NoETag,
    WrongTotal,
    /// A Content-Length that fits, and fewer bytes.
    ShortBody(usize),
    /// The same with chunks, so that the end looks regular.
    ShortChunks(usize),
    /// More bytes than asked for, in chunks.
    LongChunks,
    /// A Content-Length that is too long.
    LongBody,
    /// Half of the body; the rest when it is notified.
    WaitInTheMiddle(Arc<Notify>),
    /// No answer at all.
    Hang,
    /// The connection is closed without an answer.
    Close,
}
