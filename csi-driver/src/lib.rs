//! The node side of Granary on Kubernetes: the CSI services, the decision who may mount what, the node's own report, and the index Job.
//! What moves and mounts bytes knows nothing of Kubernetes and lives in the crates beside this one.

pub mod access;
pub mod attributes;
pub mod capability;
pub mod classes;
pub mod cluster;
pub mod grpc;
pub mod guard;
pub mod health;
pub mod http;
pub mod index_job;
pub mod keeper;
pub mod manifest;
pub mod metrics;
pub mod mounter;
pub mod node;
pub mod node_cache;
pub mod options;
mod parent;
pub mod proto;
pub mod publish;
pub mod run;
mod secret_dir;
pub mod server_mounter;
pub mod store;
