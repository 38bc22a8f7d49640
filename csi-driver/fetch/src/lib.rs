//! Sources of datasets: where objects are listed and read. Nothing here knows Kubernetes, caches or files of a node.
//!
//! Every read is conditional on the pin that the listing gave, and every answer is compared with it: a source gives the right
//! bytes or an error.
//!
//! # What comes of a source that misbehaves
//!
//! In a read by [`read_retrying`], whose limits are in [`RetryPolicy`]; each row is tested in `tests/faults.rs`.
//!
//! | the source | the read |
//! |---|---|
//! | is slow | goes on, as long as 16 KiB come in each 15 s |
//! | stalls, before its answer or within it; or drips | ends the request after 15 s without 16 KiB, and asks for the rest again; `SourceTimeout` after 60 s |
//! | resets or closes the connection, truncates, or is no HTTP | asks for the rest again, under the same pin; `SourceUnavailable` after 60 s |
//! | cannot be connected to | the same; `EndpointUnreachable` |
//! | answers 408, 425, 429, 5xx | asks again, later each time; fewer requests are made at once after 408, 429, 503 and 504; `SourceUnavailable` after 60 s |
//! | answers 401 or 403 | asks again 3 times, since keys are rotated; then `CredentialsRejected` |
//! | ignores the range, gives another one, another length, or no entity tag | nothing of it is used; asks again 3 times; then `BadAnswer` |
//! | gives more than was asked for after bytes were given out | ends with `BadAnswer`: nothing follows bytes of a wrong answer |
//! | gives bytes that do not have the checksum that it states of the object | the same with `ChecksumMismatch`; asks again if none was given out |
//! | answers 404 or 410 | ends with `ObjectNotFound` |
//! | answers 412 or 416, or has another version, tag or size | ends with `ObjectChanged` |
//! | redirects | S3: ends with `SourceInvalid`, since a signature holds for one place; HTTP: is followed 5 times, to where requests may go |
//! | fails 5 times in a row and for 60 s | all its readers get `SourceDown` at once, without a request; one request after 5 s, and then less often, finds out whether it answers again |
//!
//! Tries after the first are bounded for all readers of a source together: 128 at once, 16 a second, and one for five requests that
//! succeed. What a hanging file or name server blocks is a bounded number of threads of each source.

mod breaker;
mod budget;
mod checksum;
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
mod health;
mod http;
mod lane;
mod object_store;
mod patience;
mod policy;
mod pool;
mod refusal;
mod retry;
mod retry_policy;
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
pub use retry::read_retrying;
pub use retry_policy::RetryPolicy;
pub use source::{ByteStream, Listed, Source};
