//! What the operator knows of the cluster: one watch and one cache for each kind, shared by all reconcilers.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion, NodeCache};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::names;

/// How soon everything is listed again when a watch cannot go on from where it was.
const LIST_AGAIN: Duration = Duration::from_secs(1);

/// What a watch says.
type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// What every watched kind can do.
pub trait Kind: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Kind for K {}

/// The cache of one kind, and who wants to hear of its changes.
pub struct Watched<K: Kind>
where
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    subscribers: Mutex<Vec<UnboundedSender<Arc<K>>>>,
}

impl<K: Kind> Watched<K> {
    fn new() -> (Arc<Self>, Writer<K>) {
        let writer = Writer::new(());
        let watched = Self { store: writer.as_reader(), subscribers: Mutex::new(Vec::new()) };
        (Arc::new(watched), writer)
    }

    /// A cache that holds `objects` and never changes; for tests of reconcilers.
    pub fn fixed(objects: Vec<K>) -> Arc<Self> {
        let (watched, mut writer) = Self::new();
        writer.apply_watcher_event(&Event::Init);
        for object in objects {
            writer.apply_watcher_event(&Event::InitApply(object));
        }
        writer.apply_watcher_event(&Event::InitDone);
        watched
    }

    /// The cache itself.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// All objects.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// The object of this name; without a namespace for a kind of the cluster.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let reference = ObjectRef::new(name);
        self.store.get(&match namespace {
            Some(namespace) => reference.within(namespace),
            None => reference,
        })
    }

    /// Every object that appears, changes or vanishes from now on, as it was and as it is: what it referred to may care too.
    pub fn changes(&self) -> impl Stream<Item = Arc<K>> + Send + use<K> {
        let (sender, receiver) = unbounded_channel();
        self.subscribers.lock().push(sender);
        futures::stream::unfold(receiver, |mut receiver: UnboundedReceiver<Arc<K>>| async move {
            receiver.recv().await.map(|object| (object, receiver))
        })
    }

    fn tell(&self, object: &Arc<K>) {
        self.subscribers.lock().retain(|subscriber| subscriber.send(Arc::clone(object)).is_ok());
    }

    /// Keeps the cache, until the process ends.
    async fn keep(self: Arc<Self>, mut writer: Writer<K>, watch: impl Fn() -> Events<K> + Send) {
        let mut events = watch();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(&mut writer, event),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), error = %error, "watch interrupted; it is retried");
                    if is_gone(&error) {
                        // The watcher itself would ask for the same lost point in time for ever.
                        tokio::time::sleep(LIST_AGAIN).await;
                        events = watch();
                    }
                }
            }
        }
    }

    fn take(&self, writer: &mut Writer<K>, event: Event<K>) {
        let before = match &event {
            Event::Apply(object) => self.store.get(&ObjectRef::from_obj(object)).into_iter().collect(),
            Event::InitDone => self.store.state(),
            _ => Vec::new(),
        };
        writer.apply_watcher_event(&event);
        before.iter().for_each(|object| self.tell(object));
        match event {
            Event::Apply(object) | Event::Delete(object) => self.tell(&Arc::new(object)),
            Event::InitDone => self.store.state().iter().for_each(|object| self.tell(object)),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// All caches.
#[allow(missing_docs)]
pub struct World {
    pub datasets: Arc<Watched<Dataset>>,
    pub versions: Arc<Watched<DatasetVersion>>,
    pub classes: Arc<Watched<DataStorageClass>>,
    pub grants: Arc<Watched<DatasetGrant>>,
    pub nodes: Arc<Watched<NodeCache>>,
    pub claims: Arc<Watched<PersistentVolumeClaim>>,
    pub volumes: Arc<Watched<PersistentVolume>>,
    pub storage_classes: Arc<Watched<StorageClass>>,
    /// Index Jobs only.
    pub jobs: Arc<Watched<Job>>,
}

impl World {
    /// Begins to watch; [`World::ready`] waits until everything is known.
    pub fn watch(client: &Client) -> Self {
        let all = watcher::Config::default;
        Self {
            datasets: start(client, all()),
            versions: start(client, all()),
            classes: start(client, all()),
            grants: start(client, all()),
            nodes: start(client, all()),
            claims: start(client, all()),
            volumes: start(client, all()),
            storage_classes: start(client, all()),
            jobs: start(client, all().labels(names::DATASET_UID_LABEL)),
        }
    }

    /// Waits until every cache holds what the API server has: a plan made of half of it would be wrong.
    pub async fn ready(&self) {
        // A dropped writer means that its task has ended, with the process.
        let _ = tokio::join!(
            self.datasets.store.wait_until_ready(),
            self.versions.store.wait_until_ready(),
            self.classes.store.wait_until_ready(),
            self.grants.store.wait_until_ready(),
            self.nodes.store.wait_until_ready(),
            self.claims.store.wait_until_ready(),
            self.volumes.store.wait_until_ready(),
            self.storage_classes.store.wait_until_ready(),
            self.jobs.store.wait_until_ready(),
        );
    }
}

fn start<K: Kind>(client: &Client, config: watcher::Config) -> Arc<Watched<K>> {
    let (watched, writer) = Watched::<K>::new();
    let client = client.clone();
    let watch = move || watcher::watcher(Api::all(client.clone()), config.clone()).default_backoff().boxed();
    tokio::spawn(Arc::clone(&watched).keep(writer, watch));
    watched
}

/// Whether the API server has forgotten what has happened since a watch ended, and refuses to begin another one there. (When it says so
/// within a watch, the watcher lists again by itself.)
fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn dataset(name: &str, class: &str) -> Dataset {
        let mut dataset = Dataset::new(name, Default::default());
        dataset.metadata.namespace = Some("a".to_owned());
        dataset.spec.storage_class_name = class.to_owned();
        dataset
    }

    #[tokio::test]
    async fn a_change_tells_of_what_was_and_what_is() {
        let (watched, mut writer) = Watched::<Dataset>::new();
        watched.take(&mut writer, Event::Init);
        watched.take(&mut writer, Event::InitApply(dataset("x", "old")));
        let mut changes = pin!(watched.changes());
        watched.take(&mut writer, Event::InitDone);
        watched.take(&mut writer, Event::Apply(dataset("x", "new")));
        watched.take(&mut writer, Event::Delete(dataset("x", "new")));
        let mut classes = Vec::new();
        for _ in 0..4 {
            classes.push(changes.next().await.unwrap().spec.storage_class_name.clone());
        }
        assert_eq!(classes, ["old", "old", "new", "new"]);
        assert!(watched.get(Some("a"), "x").is_none());
    }
}
