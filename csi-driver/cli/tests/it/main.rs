//! The binary, as a user runs it.

mod index;
mod mount;
