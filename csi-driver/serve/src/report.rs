//! What a server has mounted and cached.

use std::collections::BTreeMap;

use granary_blob::{BlobStats, BlobTag, PoolUsage, ReadErrorCount, ScrubStats};

use crate::MountLayout;
use crate::node::Node;

/// What a server has mounted and cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every open pool, by the name of its class.
    pub pools: Vec<(String, PoolUsage)>,
    /// Every dataset with something mounted or cached.
    pub datasets: Vec<DatasetReport>,
    /// Sums over all blobs since the server started.
    pub traffic: BlobStats,
    /// Sums over all pools since they were opened.
    pub scrub: ScrubStats,
}

/// One dataset on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetReport {
    /// The dataset.
    pub tag: BlobTag,
    /// Bytes of it in caches, rounded up to blocks.
    pub cached_bytes: u64,
    /// Versions that are published.
    pub versions: Vec<VersionReport>,
    /// Reads that failed since the server started.
    pub read_errors: Vec<ReadErrorCount>,
}

/// One version that is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionReport {
    /// Its name.
    pub version: String,
    /// Where it is mounted: the number of places.
    pub targets: u32,
    /// How it is mounted now.
    pub layout: MountLayout,
}

/// Puts together what pools, blobs and volumes say.
pub(crate) fn report(node: &Node) -> Report {
    let pools = node.pools.all();
    let mut datasets: BTreeMap<BlobTag, DatasetReport> = BTreeMap::new();
    for usage in pools.iter().flat_map(|(_, pool)| pool.blobs()) {
        let dataset = entry(&mut datasets, &usage.tag);
        dataset.cached_bytes += usage.cached_bytes;
    }
    let (traffic, errors) = node.blobs.counted();
    for (tag, errors) in errors.into_datasets() {
        entry(&mut datasets, &tag).read_errors = errors;
    }
    let targets = node.volumes.targets();
    for (key, version) in node.all_live() {
        if let Some(count) = targets.get(&key) {
            let dataset = entry(&mut datasets, &version.manifest.dataset);
            let layout = version.layout();
            dataset.versions.push(VersionReport { version: version.manifest.version.clone(), targets: *count, layout });
        }
    }
    let mut datasets: Vec<_> = datasets.into_values().collect();
    for dataset in &mut datasets {
        dataset.versions.sort();
    }
    let scrub = pools.iter().map(|(_, pool)| pool.scrub_stats()).fold(ScrubStats::default(), std::ops::Add::add);
    let pools = pools.iter().map(|(name, pool)| (name.clone(), pool.usage())).collect();
    Report { pools, datasets, traffic, scrub }
}

fn entry<'a>(datasets: &'a mut BTreeMap<BlobTag, DatasetReport>, tag: &BlobTag) -> &'a mut DatasetReport {
    datasets.entry(tag.clone()).or_insert_with(|| DatasetReport {
        tag: tag.clone(),
        cached_bytes: 0,
        versions: Vec::new(),
        read_errors: Vec::new(),
    })
}
