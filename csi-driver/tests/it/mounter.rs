//! A data plane in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use granary_crds::DataStorageClass;
use granary_crds::node_cache::{DatasetReport, Layout, PoolReport};
use granary_csi_driver::mounter::{Content, MountError, MountReport, Mounter, Scrub, Secret, Traffic};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What is mounted.
#[derive(Default)]
pub struct Mounts {
    /// Version and dataset by target.
    pub published: BTreeMap<PathBuf, Content>,
    /// Keys that came with republishing.
    pub refreshed: Vec<(String, Secret)>,
    /// How often a mount was made.
    pub count: usize,
    pub unsupported: Option<String>,
    pub failure: Option<fn() -> MountError>,
    pub datasets: Vec<DatasetReport>,
}

/// A data plane in memory. A publish takes a permit of `gate`.
pub struct FakeMounter {
    mounts: Mutex<Mounts>,
    pub gate: Semaphore,
    pub entered: Semaphore,
}

impl Default for FakeMounter {
    fn default() -> Self {
        Self { mounts: Mutex::default(), gate: Semaphore::new(1000), entered: Semaphore::new(0) }
    }
}

impl FakeMounter {
    pub fn change<T>(&self, change: impl FnOnce(&mut Mounts) -> T) -> T {
        change(&mut self.mounts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Name of the version at `target`.
    pub fn version_at(&self, target: &Path) -> Option<String> {
        self.change(|mounts| mounts.published.get(target)?.version.metadata.name.clone())
    }

    /// Holds every publish back until the permits are dropped.
    pub async fn hold(&self) -> SemaphorePermit<'_> {
        self.gate.acquire_many(1000).await.unwrap()
    }
}

#[async_trait]
impl Mounter for FakeMounter {
    fn support(&self) -> Result<Layout, String> {
        self.change(|mounts| mounts.unsupported.clone()).map_or(Ok(Layout::EROFSLoop), Err)
    }

    fn is_published(&self, target: &Path) -> bool {
        self.change(|mounts| mounts.published.contains_key(target))
    }

    async fn publish(&self, _: &str, target: &Path, content: Content) -> Result<(), MountError> {
        self.entered.add_permits(1);
        let _permit = self.gate.acquire().await.unwrap();
        self.change(|mounts| {
            if let Some(failure) = mounts.failure {
                return Err(failure());
            }
            mounts.count += 1;
            mounts.published.insert(target.to_owned(), content);
            Ok(())
        })
    }

    fn refresh_secret(&self, volume_id: &str, secret: Secret) {
        self.change(|mounts| mounts.refreshed.push((volume_id.to_owned(), secret)));
    }

    async fn unpublish(&self, _: &str, target: &Path) -> Result<(), MountError> {
        self.change(|mounts| mounts.published.remove(target));
        Ok(())
    }

    fn configure(&self, _: &DataStorageClass) -> Result<(), MountError> {
        Ok(())
    }

    fn report(&self) -> MountReport {
        MountReport {
            pools: vec![PoolReport {
                class_name: "granary".into(),
                limit_bytes: Some(100),
                used_bytes: Some(40),
                free_bytes: Some(1000),
            }],
            datasets: self.change(|mounts| mounts.datasets.clone()),
            traffic: Traffic {
                hits: 7,
                misses: 3,
                source_bytes: 4096,
                source_requests: 2,
                served_bytes: 8192,
                prefetched_bytes: 2048,
                prefetch_used_bytes: 1024,
                uncached_bytes: 512,
                failed_writes: 5,
            },
            scrub: Scrub { checked_bytes: 32768, passes: 4, damaged_parts: 2, repaired_parts: 1 },
        }
    }
}
