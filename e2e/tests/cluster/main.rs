//! Tests on the real cluster, with Granary installed by its chart. `e2e/test cluster` starts what they need and runs them;
//! each makes a namespace of its own and leaves nothing behind.

mod access;
mod alone;
mod claims;
mod docs;
mod lab;
mod lifecycle;
mod preload;
mod sanity;
mod sources;
mod validation;
mod versions;
