//! An operator without its watches: it looks at everything, reconciles everything, and does so again until nothing changes.

use std::path::Path;
use std::sync::Arc;

use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion, NodeCache};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;

use crate::events::Events;
use crate::names::DATASET_UID_LABEL;
use crate::reconcile::claim::Claims;
use crate::reconcile::dataset::Datasets;
use crate::reconcile::dataset::job::JobSettings;
use crate::reconcile::dataset_version::DatasetVersions;
use crate::reconcile::grant::Grants;
use crate::reconcile::runner::Reconciler;
use crate::reconcile::storage_class::StorageClasses;
use crate::reconcile::volume::Volumes;
use crate::reconcile::{Context, ReconcileError};
use crate::store::{Directory, JobRegistry};
use crate::testing::server::Server;
use crate::world::{Kind, Watched, World};

/// Rounds that are enough for anything.
const ROUNDS: usize = 30;

/// An operator.
pub struct Operator {
    /// What it works with.
    pub context: Context,
    server: Server,
}

impl Operator {
    /// A process that has just started, whose client is `client` and whose volume is `dir`.
    pub async fn start(server: &Server, client: Client, dir: &Path) -> Self {
        let context = Context {
            world: world(server),
            store: Arc::new(Directory::open(dir, 1000).await.unwrap()),
            registry: Arc::new(JobRegistry::open(dir).unwrap()),
            events: Events::new(client.clone(), "operator"),
            metrics: Arc::default(),
            jobs: JobSettings {
                namespace: "granary".to_owned(),
                store_url: "https://store:8443".to_owned(),
                ..JobSettings::default()
            },
            client,
        };
        Self { context, server: server.clone() }
    }

    /// Reconciles everything until nothing changes and nothing fails.
    pub async fn settle(&mut self) {
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let before = self.server.changes();
            last = self.round().await;
            if last.is_empty() && self.server.changes() == before {
                return;
            }
        }
        panic!("it does not come to rest: {last:?}");
    }

    /// Reconciles everything once, knowing what there was when it began: caches are never newer, and often older.
    pub async fn round(&mut self) -> Vec<ReconcileError> {
        self.context.world = world(&self.server);
        let (context, world) = (&self.context, &self.context.world);
        let mut failures = Vec::new();
        failures.extend(each::<StorageClasses>(context, &world.classes).await);
        failures.extend(each::<Datasets>(context, &world.datasets).await);
        failures.extend(each::<DatasetVersions>(context, &world.versions).await);
        failures.extend(each::<Claims>(context, &world.claims).await);
        failures.extend(each::<Volumes>(context, &world.volumes).await);
        failures.extend(each::<Grants>(context, &world.grants).await);
        failures
    }
}

async fn each<R: Reconciler>(context: &Context, watched: &Watched<R::Kind>) -> Vec<ReconcileError> {
    let mut objects = watched.list();
    objects.sort_by_key(|object| (object.namespace(), object.name_any()));
    let mut failures = Vec::new();
    for object in objects {
        failures.extend(R::reconcile(context, object).await.err());
    }
    failures
}

fn world(server: &Server) -> World {
    const GRANARY: &str = "/apis/granary.dev/v1alpha1";
    let mut jobs: Vec<Job> = server.all("/apis/batch/v1/jobs");
    jobs.retain(|job| job.labels().contains_key(DATASET_UID_LABEL));
    World {
        datasets: known::<Dataset>(server, &format!("{GRANARY}/datasets")),
        versions: known::<DatasetVersion>(server, &format!("{GRANARY}/datasetversions")),
        classes: known::<DataStorageClass>(server, &format!("{GRANARY}/datastorageclasses")),
        grants: known::<DatasetGrant>(server, &format!("{GRANARY}/datasetgrants")),
        nodes: known::<NodeCache>(server, &format!("{GRANARY}/nodecaches")),
        claims: known::<PersistentVolumeClaim>(server, "/api/v1/persistentvolumeclaims"),
        volumes: known::<PersistentVolume>(server, "/api/v1/persistentvolumes"),
        storage_classes: known::<StorageClass>(server, "/apis/storage.k8s.io/v1/storageclasses"),
        jobs: Watched::fixed(jobs),
    }
}

fn known<K: Kind + DeserializeOwned>(server: &Server, collection: &str) -> Arc<Watched<K>> {
    Watched::fixed(server.all(collection))
}
