//! DataStorageClasses: the StorageClass of the same name.

mod plan;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use granary_crds::DataStorageClass;
use granary_crds::names::IN_USE_FINALIZER;
use jiff::Timestamp;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use self::plan::Observed;
use super::runner::{Reconciler, Trigger};
use super::{Context, ReconcileError, write};
use crate::world::World;

/// Reconciles DataStorageClasses.
pub struct StorageClasses;

#[async_trait]
impl Reconciler for StorageClasses {
    type Kind = DataStorageClass;
    const NAME: &'static str = "DataStorageClass";

    async fn reconcile(context: &Context, class: Arc<DataStorageClass>) -> Result<Option<Timestamp>, ReconcileError> {
        let world = &context.world;
        let name = class.name_any();
        let seen = Observed {
            now: Timestamp::now(),
            storage_class: world.storage_classes.get(None, &name),
            classes: world.classes.list(),
            datasets: world.datasets.store().state_filter(|dataset| dataset.spec.storage_class_name == name).len(),
            class,
        };
        let plan = plan::plan(&seen);
        let class = seen.class.as_ref();
        let api = write::cluster::<DataStorageClass>(&context.client);
        write::metadata(&api, class, (IN_USE_FINALIZER, plan.finalizer), &[]).await?;
        if plan.create {
            let storage_classes = write::cluster::<StorageClass>(&context.client);
            write::create(&storage_classes, &plan::storage_class(class)?).await?;
        }
        if let Some(status) = &plan.status {
            write::status(&api, class, class.status.as_ref(), status).await?;
        }
        context.events.publish(&class.object_ref(&()), &plan.notes).await;
        Ok(None)
    }
}

/// Changes of other objects that matter to a class.
pub fn triggers(world: &World) -> Vec<Trigger<DataStorageClass>> {
    let classes = world.classes.store();
    vec![
        world.storage_classes.changes().map(|class| vec![ObjectRef::new(&class.name_any())]).boxed(),
        world.datasets.changes().map(|dataset| vec![ObjectRef::new(&dataset.spec.storage_class_name)]).boxed(),
        // Their cache directories must not meet.
        world
            .classes
            .changes()
            .map(move |_| classes.state().iter().map(|class| ObjectRef::from_obj(class.as_ref())).collect())
            .boxed(),
    ]
}
