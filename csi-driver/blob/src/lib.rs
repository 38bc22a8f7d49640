//! The node's cache: one sparse file a blob, the presence of its parts, filling, eviction and the limits that hold before a
//! fetch. It knows nothing of sources, FUSE or Kubernetes: bytes come through [`Origin`].
//!
//! A [`Pool`] is one directory with a size limit and a free-space floor. Each [`Blob`] in it is read by offset; parts that
//! are absent are fetched once however many readers wait for them, checked, written to the sparse file and served from the
//! page cache. Parts of any blob of the pool make room, those that were read once before those that are used again; when
//! nothing can, a part is served from a bounded buffer and dropped. What there is of requests and buffers the datasets share.
mod age;
mod ahead;
mod blob;
mod body;
mod budget;
mod climb;
mod disk;
mod error;
mod evict;
mod fill;
mod flight;
#[cfg(fuzzing)]
pub mod fuzz;
mod gate;
mod hold;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod layout;
#[cfg(test)]
mod logged;
mod maintain;
mod origin;
mod parts_map;
mod pieces;
mod pool;
#[cfg(test)]
mod power_cut;
mod prefetch;
mod preload;
mod presence;
mod room;
mod scraps;
mod scrub;
mod share;
mod sink;
mod stats;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod turnover;
mod walk;

#[cfg(test)]
extern crate self as granary_blob;

pub use blob::Blob;
pub use budget::{PoolConfig, PoolUsage};
pub use error::{PoolError, ReadError};
pub use hold::{Claim, PartsHold, Unready};
pub use origin::{Origin, OriginError, OriginErrorKind};
pub use pool::{BlobUsage, Pool};
pub use preload::Preload;
pub use scrub::{SCRUB_RATE, ScrubStats};
pub use share::Shares;
pub use stats::{BlobStats, ReadErrorCount};
pub use store::BlobTag;
