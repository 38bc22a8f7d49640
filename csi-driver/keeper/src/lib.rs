//! The keeper: a process that holds file descriptors for another one, and hands them to its successor. It knows nothing of
//! what they are, and does nothing else, so that there is no reason to stop or to update it.
//!
//! It listens at a Unix socket of packets. A client gives it descriptors under names, and a later client, of another process,
//! gets them. What a client gave stays when the client is gone.

mod client;
mod keeper;
mod socket;
pub mod wire;

pub use client::{Client, ClientError};
pub use keeper::{Keeper, KeeperError};
