//! The kernel's side of Granary: loop devices, one FUSE file a blob, EROFS mounts, and what a restart makes of them. Nothing
//! here knows Kubernetes.
//!
//! A version is one EROFS superblock on two read-only loop devices, one over its image and one over the blob's FUSE file,
//! mounted at a private place; each target is a bind mount of that.

mod adopt;
mod artifacts;
mod buffers;
mod erofs;
mod error;
mod fuse_file;
mod locks;
mod loop_sys;
mod loops;
mod manifest;
mod mountinfo;
mod node;
mod origin;
mod pools;
mod probe;
mod read_errors;
mod report;
mod served;
mod server;
mod state_dir;
mod survey;
mod volumes;

pub use error::ServeError;
pub use manifest::{ArtifactError, ArtifactStore, VersionManifest};
pub use probe::Layout;
pub use report::{DatasetReport, Report};
pub use server::{Server, ServerConfig};
