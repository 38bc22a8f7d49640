//! The kernel's side of Granary: loop devices, one FUSE file a blob, EROFS mounts, and what a restart makes of them. Nothing
//! here knows Kubernetes.
//!
//! A version is one EROFS superblock, mounted at a private place; each target is a bind mount of that. While parts of it are
//! absent, it is on two read-only loop devices, one over its image and one over the blob's FUSE file; when all are there, the
//! latter is moved to the cache's own file, and back before one of them is evicted. A version that is complete when it is
//! mounted needs no devices.

mod adopt;
mod allocator;
mod apart;
mod artifacts;
mod blob_reads;
mod buffers;
mod claims;
mod erofs;
mod error;
mod file_image;
mod filesystem;
mod fuse_file;
mod fuse_session;
mod fuse_wire;
mod fusectl;
mod journal;
mod journalled;
mod keeping;
mod kept;
mod live;
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
mod repaired;
mod report;
mod sealed;
mod served;
mod server;
mod state_dir;
mod status;
mod superblocks;
mod survey;
mod switch;
mod takeover;
mod volumes;

pub use error::ServeError;
pub use live::MountLayout;
pub use manifest::{ArtifactError, ArtifactStore, VersionManifest};
pub use probe::{Layout, LayoutChoice};
pub use report::{DatasetReport, Report, VersionReport};
pub use server::{Server, ServerConfig};
pub use status::{MountStatus, survey_mounts};
