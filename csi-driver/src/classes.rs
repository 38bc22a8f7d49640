//! Keeps the caches of this node as the DataStorageClasses say, also while nothing is published.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::mounter::Mounter;

/// How often the classes are looked at. A publish looks at its own class at once.
const PERIOD: Duration = Duration::from_secs(30);

/// Follows the classes for as long as it is polled, from one period on; tells `trouble` which caches cannot be used.
pub async fn follow(cluster: &dyn Cluster, mounter: &dyn Mounter, trouble: &watch::Sender<Option<String>>) {
    loop {
        sleep(PERIOD).await;
        configure(cluster, mounter, trouble).await;
    }
}

/// Looks at the classes once.
pub async fn configure(cluster: &dyn Cluster, mounter: &dyn Mounter, trouble: &watch::Sender<Option<String>>) {
    let classes = match cluster.classes().await {
        Ok(classes) => classes,
        // The caches stay as they are.
        Err(error) => return tracing::warn!("{error}"),
    };
    let mut failures = Vec::new();
    for class in &classes {
        if let Err(error) = mounter.configure(class) {
            let name = class.metadata.name.as_deref().unwrap_or_default();
            failures.push(format!("class '{name}': {error}"));
        }
    }
    let found = (!failures.is_empty()).then(|| failures.join("; "));
    let news = trouble.send_if_modified(|known| {
        let changed = *known != found;
        known.clone_from(&found);
        changed
    });
    if let (true, Some(found)) = (news, found) {
        tracing::error!("caches cannot be used: {found}");
        if let Err(error) = cluster.warn(granary_crds::conditions::reasons::CACHE_UNAVAILABLE, &found).await {
            tracing::warn!("{error}");
        }
    }
}
