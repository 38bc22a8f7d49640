//! Sources that misbehave, on loopback: a store that is sound, a proxy before it that is not, and a slow link.
//!
//! Tests of every crate use these, so that each kind of misbehaviour is made in one place. Everything ends with the runtime that
//! it was started in.

mod fault;
mod link;
mod proxy;
mod reply;
mod store;
mod upstream;
mod wire;

pub use fault::Fault;
pub use link::{Slowness, forward_slowly};
pub use proxy::{Asked, Proxy};
pub use store::{BUCKET, State, Store, Stored};
pub use wire::Request;
