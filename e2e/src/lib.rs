//! The local cluster and the end-to-end tests of Granary.
//!
//! A machine with only base toolchains (Debian, root, Rust, Go, Python, apt) becomes a running, real Kubernetes:
//! [`tools`] builds and installs what is needed, [`cluster`] runs it, [`images`] puts container images into it,
//! [`s3`] runs an object store beside it, and [`kube`] has what tests need to talk to it.

pub mod bench;
pub mod cluster;
pub mod daemon;
pub mod demo;
pub mod exec;
pub mod fuzz;
pub mod images;
pub mod install;
pub mod kube;
pub mod memory_group;
pub mod paths;
pub mod progress;
pub mod s3;
pub mod suite;
pub mod supply;
pub mod tools;
pub mod torture;
