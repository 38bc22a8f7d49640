//! The extent table: which object of which source lies where in a blob.
//!
//! Objects are placed in allocation order, each at the next multiple of [`BLOCK_BYTES`](crate::BLOCK_BYTES). A table that
//! extends another keeps every record of it bit for bit, so that an address of a blob never changes its meaning.

mod builder;
mod error;
mod format;
mod table;

pub use builder::{TableBuilder, TableSummary};
pub use error::TableError;
pub use table::{Extent, ExtentTable, Part, PinRef};
