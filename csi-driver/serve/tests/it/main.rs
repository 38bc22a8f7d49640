//! The server against the real kernel. `cargo test -p granary-serve -- --ignored`, as root.

mod adoption;
mod filesystem;
mod fixture;
mod process;
mod publishing;
mod readers;
mod reboot;
mod restarts;
mod scrubbing;
mod stalls;
mod switching;
mod takeover;
