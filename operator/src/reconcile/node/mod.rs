//! What nodes report in their NodeCaches, as the reconcilers of Datasets and versions need it.

pub mod usage;
