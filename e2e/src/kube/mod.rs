//! Talking to the cluster in tests: `kubectl` as a user would, and a client for watching.

mod kubectl;
mod wait;

pub use kubectl::Kubectl;
pub use wait::{client, wait_for};
