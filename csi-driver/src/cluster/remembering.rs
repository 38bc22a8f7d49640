//! A cluster whose API server may be away for some time: what it said before counts until it is too old.
//!
//! Whoever answers is believed, also with a refusal; only where nobody answers is memory asked. A grant that ends by its own
//! time ends here too, since it is compared with the clock whenever it is used.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use granary_crds::{DataStorageClass, Dataset, DatasetGrant, DatasetVersion, NodeCacheStatus};
use tokio::time::sleep;

use super::memory::{Answers, Memory, Moment};
use super::{Cluster, ClusterError};
use crate::mounter::Mounter;

/// A cluster, and what it said.
pub struct Remembering {
    cluster: Arc<dyn Cluster>,
    max_age: Duration,
    memory: Mutex<Memory>,
}

impl Remembering {
    /// What `cluster` says, or what it said less than `max_age` ago while it is away. With zero nothing is relied on but its answers.
    pub fn new(cluster: Arc<dyn Cluster>, max_age: Duration) -> Self {
        Self { cluster, max_age, memory: Mutex::default() }
    }

    /// Asks again about what is published here, for as long as it is polled, so that memory is never older than half of what it may be
    /// when the API server goes away. At the start, too: the memory of an earlier process is gone with it.
    pub async fn keep(&self, mounter: &dyn Mounter) {
        if self.max_age.is_zero() {
            return std::future::pending().await;
        }
        loop {
            self.ask_again(mounter).await;
            sleep(self.max_age / 2).await;
        }
    }

    /// Asks once about what is published here. What cannot be asked now stays as old as it is.
    pub async fn ask_again(&self, mounter: &dyn Mounter) {
        let published = mounter.report().datasets;
        let mut namespaces = BTreeSet::new();
        for dataset in published.iter().filter(|dataset| !dataset.versions.is_empty()) {
            told(self.dataset(&dataset.namespace, &dataset.name).await);
            for version in &dataset.versions {
                told(self.version(&dataset.namespace, &version.name).await);
            }
            if namespaces.insert(&dataset.namespace) {
                told(self.grants(&dataset.namespace).await);
            }
        }
    }

    /// The answer, or the remembered one.
    async fn ask<T: Clone>(
        &self,
        question: String,
        kind: fn(&mut Memory) -> &mut Answers<T>,
        asking: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        // Before, not after: the answer is at least that old.
        let asked = Moment::now();
        let answer = asking.await;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                kind(&mut memory).put(&question, asked, answer.clone(), self.max_age);
                Ok(answer)
            }
            Err(error) if error.away => match kind(&mut memory).get(&question, Moment::now(), self.max_age) {
                Ok((answer, age)) => {
                    let age_seconds = age.as_secs();
                    tracing::warn!(age_seconds, "{error}; what the API server said before still counts");
                    Ok(answer)
                }
                Err(age) => Err(self.too_old(error, age)),
            },
            Err(error) => Err(error),
        }
    }

    fn too_old(&self, error: ClusterError, age: Option<Duration>) -> ClusterError {
        let bound = self.max_age.as_secs();
        let known = match age {
            _ if self.max_age.is_zero() => "and this node relies on nothing that it said before".to_owned(),
            Some(age) => format!("and what it said {} s ago counts for {bound} s only", age.as_secs()),
            None => format!("and this node has not heard of this in the last {bound} s"),
        };
        let message = format!("{}; {known} (--access-max-age-seconds)", error.message);
        ClusterError { message, ..error }
    }
}

fn told<T>(answer: Result<T, ClusterError>) {
    if let Err(error) = answer {
        tracing::warn!("{error}");
    }
}

#[async_trait]
impl Cluster for Remembering {
    async fn dataset(&self, namespace: &str, name: &str) -> Result<Option<Dataset>, ClusterError> {
        let asking = self.cluster.dataset(namespace, name);
        self.ask(format!("{namespace}/{name}"), |memory| &mut memory.datasets, asking).await
    }

    async fn version(&self, namespace: &str, name: &str) -> Result<Option<DatasetVersion>, ClusterError> {
        let asking = self.cluster.version(namespace, name);
        self.ask(format!("{namespace}/{name}"), |memory| &mut memory.version, asking).await
    }

    async fn versions(&self, namespace: &str, dataset: &str) -> Result<Vec<DatasetVersion>, ClusterError> {
        let asking = self.cluster.versions(namespace, dataset);
        self.ask(format!("{namespace}/{dataset}"), |memory| &mut memory.versions, asking).await
    }

    async fn grants(&self, namespace: &str) -> Result<Vec<DatasetGrant>, ClusterError> {
        let asking = self.cluster.grants(namespace);
        self.ask(namespace.to_owned(), |memory| &mut memory.grants, asking).await
    }

    async fn class(&self, name: &str) -> Result<Option<DataStorageClass>, ClusterError> {
        self.ask(name.to_owned(), |memory| &mut memory.classes, self.cluster.class(name)).await
    }

    /// Not from memory, but for it: this is asked every half minute, and so each class is known.
    async fn classes(&self) -> Result<Vec<DataStorageClass>, ClusterError> {
        let asked = Moment::now();
        let classes = self.cluster.classes().await?;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for class in &classes {
            let name = class.metadata.name.as_deref().unwrap_or_default();
            memory.classes.put(name, asked, Some(class.clone()), self.max_age);
        }
        Ok(classes)
    }

    async fn put_node_cache(&self, status: &NodeCacheStatus) -> Result<(), ClusterError> {
        self.cluster.put_node_cache(status).await
    }

    async fn warn(&self, reason: &str, note: &str) -> Result<(), ClusterError> {
        self.cluster.warn(reason, note).await
    }
}
