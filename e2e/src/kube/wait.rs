//! A client of the cluster, and waiting for objects by watching them.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, Resource};

/// A client by the kubeconfig of [`crate::cluster::Cluster::kubeconfig`].
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    // Another caller may have chosen one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = kube::config::Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading {}; does a cluster run?", kubeconfig.display()))?;
    let config =
        Config::from_custom_kubeconfig(file, &Default::default()).await.context("understanding the kubeconfig")?;
    Client::try_from(config).context("making a client of the cluster")
}

/// Waits until the object `name` meets a condition, by watching it, and returns it. `None` is an object that is not there.
/// The error of a timeout shows the object as it was seen last.
pub async fn wait_for<K, F>(
    api: &Api<K>,
    name: &str,
    what: &str,
    limit: Duration,
    mut condition: F,
) -> Result<Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + serde::Serialize + Send + 'static,
    F: FnMut(Option<&K>) -> bool,
{
    let (mut last, mut trouble): (Option<K>, Option<watcher::Error>) = (None, None);
    let watching = async {
        let mut events = std::pin::pin!(watcher::watch_object(api.clone(), name).default_backoff());
        // The stream goes on after an error, with a backoff, and never ends by itself.
        while let Some(event) = events.next().await {
            match event {
                Ok(object) => {
                    let met = condition(object.as_ref());
                    last = object;
                    if met {
                        return;
                    }
                }
                Err(error) => trouble = Some(error),
            }
        }
    };
    if tokio::time::timeout(limit, watching).await.is_ok() {
        return Ok(last);
    }
    let seen = last.map_or_else(|| "it is not there".into(), |object| as_yaml(&object));
    let trouble = trouble.map(|error| format!(" (watching it failed: {error})")).unwrap_or_default();
    Err(anyhow!("waited {} s in vain until {name} {what}{trouble}; last seen:\n{seen}", limit.as_secs()))
}

fn as_yaml(object: &impl serde::Serialize) -> String {
    serde_norway::to_string(object).unwrap_or_else(|error| format!("(cannot be shown: {error})"))
}
