//! The server against the real kernel. `cargo test -p granary-serve -- --ignored`, as root.

mod adoption;
mod fixture;
mod publishing;
mod restarts;
mod switching;
