//! Reconcilers, one for each kind: observe what is, plan what shall be (pure), apply the plan.

pub mod claim;
pub mod dataset;
pub mod dataset_version;
mod error;
pub mod grant;
pub mod node;
pub mod owner;
pub mod runner;
pub mod storage_class;
pub mod volume;
pub mod write;

use std::sync::Arc;

use kube::Client;

pub use self::error::ReconcileError;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::store::{ImageStore, JobRegistry};
use crate::world::World;
use dataset::job::JobSettings;

/// What every reconciler works with.
pub struct Context {
    /// For writing, and for the few things that are not watched.
    pub client: Client,
    /// For reading.
    pub world: World,
    /// What versions are made of.
    pub store: Arc<dyn ImageStore>,
    /// Which Jobs this operator made.
    pub registry: Arc<JobRegistry>,
    /// For what a user should know.
    pub events: Events,
    /// For what an administrator should know.
    pub metrics: Arc<Metrics>,
    /// What every index Job has in common.
    pub jobs: JobSettings,
}
