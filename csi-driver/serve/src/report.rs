//! What a server has mounted and cached.

use std::collections::BTreeMap;

use granary_blob::{BlobStats, BlobTag, PoolUsage, ReadErrorCount};

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
}

/// One dataset on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetReport {
    /// The dataset.
    pub tag: BlobTag,
    /// Bytes of it in caches, rounded up to blocks.
    pub cached_bytes: u64,
    /// Versions that are published, with the number of targets.
    pub versions: Vec<(String, u32)>,
    /// Reads that failed since the server started.
    pub read_errors: Vec<ReadErrorCount>,
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
            dataset.versions.push((version.manifest.version.clone(), *count));
        }
    }
    let mut datasets: Vec<_> = datasets.into_values().collect();
    for dataset in &mut datasets {
        dataset.versions.sort();
    }
    Report { pools: pools.iter().map(|(name, pool)| (name.clone(), pool.usage())).collect(), datasets, traffic }
}

fn entry<'a>(datasets: &'a mut BTreeMap<BlobTag, DatasetReport>, tag: &BlobTag) -> &'a mut DatasetReport {
    datasets.entry(tag.clone()).or_insert_with(|| DatasetReport {
        tag: tag.clone(),
        cached_bytes: 0,
        versions: Vec::new(),
        read_errors: Vec::new(),
    })
}
