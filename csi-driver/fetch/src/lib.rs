//! Sources of datasets: where objects are listed and read. Nothing here knows Kubernetes, caches or files of a node.
//!
//! Every read is conditional on the pin that the listing gave, and every answer is compared with it: a source gives the right
//! bytes or an error.

mod client;
mod config;
mod credentials;
mod direct;
mod error;
mod file;
#[cfg(fuzzing)]
pub mod fuzz;
mod glob;
mod guard;
mod http;
mod object_store;
mod policy;
mod pool;
mod refusal;
mod retry;
mod s3;
mod sigv4;
mod slowdowns;
mod source;
mod tls;
mod transport;
mod uri;
mod verify;

pub use config::{Addressing, HttpFile, HttpOptions, Identity, PinBy, S3Options, SourceConfig};
pub use credentials::{Credentials, NoCredentials, SecretKeys, SharedCredentials};
pub use error::SourceError;
pub use policy::SourcePolicy;
pub use retry::{RetryPolicy, read_retrying};
pub use source::{ByteStream, Listed, Source};
