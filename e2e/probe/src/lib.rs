//! What the probe and who makes its data have in common.

pub mod content;
