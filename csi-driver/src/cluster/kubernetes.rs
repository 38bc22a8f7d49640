//! The API server, by `kube`.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use granary_crds::names::{CSI_DRIVER, DATASET_LABEL, GROUP, VERSION};
use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion, NodeCache, NodeCacheStatus};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::ClusterResourceScope;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Cluster, ClusterError};

/// Name under which the node's fields in its NodeCache are owned.
const FIELD_MANAGER: &str = "granary-node";

/// How long an answer may take. A kubelet waits two minutes for a publish, which asks four times at most.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The API server, as seen from one node.
pub struct KubernetesCluster {
    client: Client,
    node: String,
    recorder: Recorder,
}

impl KubernetesCluster {
    /// The API server of the pod in which this runs, on the node `node`.
    pub fn from_environment(node: String) -> Result<Self, ClusterError> {
        let unusable =
            |message: String| ClusterError { action: "find the API server".to_owned(), message, away: false };
        let mut config = kube::Config::incluster().map_err(|error| unusable(error.to_string()))?;
        config.connect_timeout = Some(TIMEOUT);
        config.read_timeout = Some(TIMEOUT);
        config.write_timeout = Some(TIMEOUT);
        let client = Client::try_from(config).map_err(|error| unusable(error.to_string()))?;
        Ok(Self::new(client, node))
    }

    /// The API server behind `client`, seen from the node `node`.
    pub fn new(client: Client, node: String) -> Self {
        let reporter = Reporter { controller: CSI_DRIVER.to_owned(), instance: Some(node.clone()) };
        Self { recorder: Recorder::new(client.clone(), reporter), client, node }
    }

    async fn get<K>(&self, api: Api<K>, name: &str) -> Result<Option<K>, ClusterError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        answered(api.get_opt(name), || format!("get {} '{name}'", K::kind(&()))).await
    }

    async fn list<K>(&self, api: Api<K>, selector: Option<String>) -> Result<Vec<K>, ClusterError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let params = ListParams { label_selector: selector, ..ListParams::default() };
        Ok(answered(api.list(&params), || format!("list {}", K::plural(&()))).await?.items)
    }

    fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn global<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>,
    {
        Api::all(self.client.clone())
    }

    async fn own_node(&self) -> Result<Node, ClusterError> {
        let message = "there is no such node: --node-name must be the name of this Node".to_owned();
        let missing = ClusterError { action: format!("get Node '{}'", self.node), message, away: false };
        self.get(self.global::<Node>(), &self.node).await?.ok_or(missing)
    }

    /// Makes the NodeCache, owned by the Node, so that it goes when the Node goes.
    async fn create_node_cache(&self) -> Result<(), ClusterError> {
        let node = self.own_node().await?;
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": node.metadata.uid});
        let object = self.node_cache(json!({"ownerReferences": [owner]}), None);
        let patch = self.global::<NodeCache>().patch(&self.node, &apply(), &Patch::Apply(&object)).await;
        patch.map(drop).map_err(failure(|| format!("create NodeCache '{}'", self.node)))
    }

    fn node_cache(&self, mut metadata: Value, status: Option<&NodeCacheStatus>) -> Value {
        metadata["name"] = json!(self.node);
        let mut object = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "NodeCache", "metadata": metadata});
        if let Some(status) = status {
            object["status"] = json!(status);
        }
        object
    }
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// The answer to a question, in time: the client itself would repeat it for minutes while a balancer says that nobody is there.
async fn answered<T>(
    asking: impl Future<Output = kube::Result<T>>,
    action: impl FnOnce() -> String,
) -> Result<T, ClusterError> {
    match timeout(TIMEOUT, asking).await {
        Ok(answer) => answer.map_err(failure(action)),
        Err(_) => {
            let message = format!("no answer in {} s", TIMEOUT.as_secs());
            Err(ClusterError { action: action(), message, away: true })
        }
    }
}

fn failure(action: impl FnOnce() -> String) -> impl FnOnce(kube::Error) -> ClusterError {
    move |error| ClusterError { action: action(), away: is_away(&error), message: error.to_string() }
}

/// Whether nobody answered, or somebody who cannot answer now. A refusal is an answer.
fn is_away(error: &kube::Error) -> bool {
    match error {
        // Too many requests, its database is away, a balancer without a server behind it.
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

#[async_trait]
impl Cluster for KubernetesCluster {
    async fn dataset(&self, namespace: &str, name: &str) -> Result<Option<Dataset>, ClusterError> {
        self.get(self.namespaced(namespace), name).await
    }

    async fn version(&self, namespace: &str, name: &str) -> Result<Option<DatasetVersion>, ClusterError> {
        self.get(self.namespaced(namespace), name).await
    }

    async fn versions(&self, namespace: &str, dataset: &str) -> Result<Vec<DatasetVersion>, ClusterError> {
        self.list(self.namespaced(namespace), Some(format!("{DATASET_LABEL}={dataset}"))).await
    }

    async fn grants(&self, namespace: &str) -> Result<Vec<DatasetGrant>, ClusterError> {
        self.list(self.namespaced(namespace), None).await
    }

    async fn class(&self, name: &str) -> Result<Option<DataStorageClass>, ClusterError> {
        self.get(self.global(), name).await
    }

    async fn classes(&self) -> Result<Vec<DataStorageClass>, ClusterError> {
        self.list(self.global(), None).await
    }

    async fn put_node_cache(&self, status: &NodeCacheStatus) -> Result<(), ClusterError> {
        let api = self.global::<NodeCache>();
        let object = self.node_cache(json!({}), Some(status));
        let (params, patch) = (apply(), Patch::Apply(&object));
        let write = || api.patch_status(&self.node, &params, &patch);
        let written = match write().await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {
                self.create_node_cache().await?;
                write().await
            }
            other => other,
        };
        written.map(drop).map_err(failure(|| format!("write the status of NodeCache '{}'", self.node)))
    }

    async fn warn(&self, reason: &str, note: &str) -> Result<(), ClusterError> {
        let node = self.own_node().await?;
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: "Mount".to_owned(),
            secondary: None,
        };
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            uid: node.metadata.uid,
            ..ObjectReference::default()
        };
        self.recorder.publish(&event, &regarding).await.map_err(failure(|| "record an event".to_owned()))
    }
}
