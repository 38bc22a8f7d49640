//! DatasetGrants: their status, and who is covered.

pub mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use granary_crds::DatasetGrant;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::runner::{Reconciler, Trigger};
use super::{Context, ReconcileError, write};
use crate::world::World;

/// Reconciles DatasetGrants.
pub struct Grants;

#[async_trait]
impl Reconciler for Grants {
    type Kind = DatasetGrant;
    const NAME: &'static str = "DatasetGrant";

    async fn reconcile(context: &Context, grant: Arc<DatasetGrant>) -> Result<Option<Timestamp>, ReconcileError> {
        let dataset = context.world.datasets.get(grant.namespace().as_deref(), &grant.spec.dataset_ref.name);
        let now = Timestamp::now();
        let status = plan::status(&grant, dataset.is_some(), now);
        let api = write::namespaced::<DatasetGrant>(&context.client, grant.as_ref());
        write::status(&api, grant.as_ref(), grant.status.as_ref(), &status).await?;
        let expiration = grant.spec.expiration_time.as_ref().map(|time| time.0);
        Ok(expiration.filter(|time| *time > now))
    }
}

/// Changes of other objects that matter to a grant.
pub fn triggers(world: &World) -> Vec<Trigger<DatasetGrant>> {
    let grants = world.grants.store();
    let of_dataset = world.datasets.changes().map(move |dataset| {
        let names = |grant: &DatasetGrant| {
            grant.spec.dataset_ref.name == dataset.name_any() && grant.namespace() == dataset.namespace()
        };
        let grants = grants.state_filter(names);
        grants.iter().map(|grant| ObjectRef::from_obj(grant.as_ref())).collect()
    });
    vec![of_dataset.boxed()]
}
