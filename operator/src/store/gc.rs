//! Deletes artifacts that no version names, and forgets Jobs that are gone.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use granary_crds::DatasetVersion;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{ImageStore, JobRegistry, Stored};
use crate::metrics::Metrics;
use crate::reconcile::dataset::job::DEADLINE_SECONDS;
use crate::world::World;

/// How often.
const PERIOD: Duration = Duration::from_secs(600);
/// Younger artifacts stay: a Job that still runs may name them in its result.
const MIN_AGE: Duration = Duration::from_secs(DEADLINE_SECONDS as u64 + 3600);

/// What the collection works with.
pub struct Collector {
    /// Reads the versions: from the API server, since a cache may lag behind a commit.
    pub client: Client,
    /// Which Jobs exist, and which are ours.
    pub context: Arc<crate::reconcile::Context>,
    /// Where artifacts lie.
    pub store: Arc<dyn ImageStore>,
    /// Held while deleting.
    pub commits: Arc<Mutex<()>>,
    /// For the store's size.
    pub metrics: Arc<Metrics>,
}

impl Collector {
    /// Collects until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.collect().await {
                tracing::warn!(%error, "artifacts not collected; it is repeated");
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn collect(&self) -> Result<(), CollectError> {
        forget_jobs(&self.context.world, &self.context.registry)?;
        let _alone = self.commits.lock().await;
        let versions = Api::<DatasetVersion>::all(self.client.clone()).list(&ListParams::default()).await?;
        let artifacts = versions.items.iter().flat_map(|version| &version.spec.artifacts);
        let named = artifacts.map(|artifact| artifact.digest.clone()).collect();
        let stored = self.store.list().await?;
        let mut bytes: u64 = stored.iter().map(|stored| stored.bytes).sum();
        for garbage in garbage(&stored, &named, SystemTime::now()) {
            self.store.delete(&garbage.address).await?;
            tracing::info!(artifact = %garbage.address, bytes = garbage.bytes, "artifact deleted: no version names it");
            bytes -= garbage.bytes;
        }
        self.metrics.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// A Job that is gone sends nothing any more.
fn forget_jobs(world: &World, registry: &JobRegistry) -> io::Result<()> {
    registry.retain(&world.jobs.list().iter().filter_map(|job| job.uid()).collect(), SystemTime::now())
}

fn garbage<'a>(stored: &'a [Stored], named: &HashSet<String>, now: SystemTime) -> Vec<&'a Stored> {
    let is_old = |stored: &&Stored| now.duration_since(stored.modified).is_ok_and(|age| age > MIN_AGE);
    stored.iter().filter(is_old).filter(|stored| !named.contains(&stored.address.to_string())).collect()
}

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error("image store: {0}")]
    Store(#[from] io::Error),
    #[error("list versions: {0}")]
    Api(#[from] kube::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Address;

    #[test]
    fn only_what_is_old_and_not_named_goes() {
        let now = SystemTime::now();
        let stored =
            |number: u8, age: Duration| Stored { address: Address::of(&[number; 32]), bytes: 1, modified: now - age };
        let old = MIN_AGE + Duration::from_secs(1);
        let all = [stored(1, old), stored(2, old), stored(3, MIN_AGE / 2)];
        let named = HashSet::from([all[0].address.to_string()]);
        let gone = garbage(&all, &named, now);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].address, all[1].address);
    }
}
