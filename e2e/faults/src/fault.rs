//! What can be wrong with an answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// What happens to one request and its answer. Lengths are in bytes, and count from the start of the body.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// Nothing: it is passed on and answered.
    #[default]
    None,
    /// The answer comes later by this.
    Delay(Duration),
    /// No answer at all, on a connection that stays open.
    Stall,
    /// The head and so many bytes, then nothing, on a connection that stays open.
    StallAfter(usize),
    /// The head and half of the body, and the rest once this is notified.
    Hold(Arc<Notify>),
    /// The body comes byte by byte, this long after each other.
    Drip(Duration),
    /// The connection ends in order, without an answer.
    Close,
    /// The connection is reset, without an answer.
    Reset,
    /// The connection is reset after so many bytes.
    ResetAfter(usize),
    /// The connection ends in order after so many bytes, of which the head has announced more.
    Truncate(usize),
    /// The body has so many bytes, in chunks, and looks as if it were complete.
    TruncateChunked(usize),
    /// The body is longer than what was asked for, and the head says so.
    Lengthen,
    /// The body is longer than what was asked for, in chunks.
    LengthenChunked,
    /// The bits of this byte are flipped.
    Corrupt(usize),
    /// An error document with this status. Its text is one that must not be repeated: `hunter2`.
    Status(u16),
    /// A redirection with this status to this place.
    Redirect(u16, String),
    /// The whole object, whatever range was asked for.
    IgnoreRange,
    /// The object that is there now, whatever the condition.
    IgnoreCondition,
    /// The range before the one that was asked for, or after it if that begins at 0; the head is honest about it.
    OtherRange,
    /// The right bytes under another entity tag.
    OtherETag,
    /// The right bytes without an entity tag.
    NoETag,
    /// The right bytes of an object that is said to be longer.
    OtherTotal,
    /// Other bytes, as many, under another entity tag, whatever the condition: the object was replaced.
    OtherVersion,
    /// Something that is no HTTP.
    Garbage,
}
