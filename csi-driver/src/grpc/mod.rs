//! The gRPC services that the kubelet calls.

mod errors;
pub mod identity;
pub mod node;
pub mod registration;
pub mod socket;
