//! The contract of Granary: the API types of `granary.dev/v1alpha1`, the names that other programs may rely on, and the messages
//! that operator, index Jobs and nodes exchange. Nothing here talks to anything.
//!
//! The CRD manifests, the chart's copy of them and the reference pages are generated from these types by `crdgen`.

// `KubeSchema` puts a copy of each `pub struct` into a function.
#![allow(unreachable_pub)]

pub mod conditions;
pub mod data_storage_class;
pub mod dataset;
pub mod dataset_grant;
pub mod dataset_version;
pub mod exchange;
pub mod names;
pub mod node_cache;
mod patterns;
mod rules;
pub mod schema;
pub mod size;

pub use data_storage_class::{DataStorageClass, DataStorageClassSpec, DataStorageClassStatus};
pub use dataset::{Dataset, DatasetSpec, DatasetStatus};
pub use dataset_grant::{DatasetGrant, DatasetGrantSpec, DatasetGrantStatus};
pub use dataset_version::{DatasetVersion, DatasetVersionSpec, DatasetVersionStatus};
pub use node_cache::{NodeCache, NodeCacheStatus};

pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
