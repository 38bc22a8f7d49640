//! How much a Dataset is used and what reads of it failed, from all NodeCaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use granary_crds::NodeCache;
use granary_crds::conditions::reasons;
use jiff::Timestamp;
use kube::ResourceExt;

/// What nodes report of one Dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Pods by version.
    pub pods: BTreeMap<String, i64>,
    /// Nodes on which pods use it.
    pub nodes: BTreeSet<String>,
    /// Reads that found another object than the pinned one.
    pub changed: Vec<ChangedRead>,
}

/// A node's report that reads found another object than the pinned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRead {
    /// The node.
    pub node: String,
    /// The last such read.
    pub time: Timestamp,
    /// Versions that were published on that node.
    pub versions: BTreeSet<String>,
}

impl Usage {
    /// What `nodes` report of the Dataset with this UID.
    pub fn of(uid: &str, nodes: &[Arc<NodeCache>]) -> Self {
        let mut usage = Self::default();
        for node in nodes {
            let reports = node.status.iter().flat_map(|status| &status.datasets);
            for report in reports.filter(|report| report.uid == uid) {
                let published = report.versions.iter().filter(|version| version.pod_count > 0);
                let published: BTreeMap<_, _> =
                    published.map(|version| (version.name.clone(), i64::from(version.pod_count))).collect();
                let gone = [reasons::OBJECT_CHANGED, reasons::OBJECT_NOT_FOUND];
                let changed = report.read_errors.iter().filter(|error| gone.contains(&error.reason.as_str()));
                usage.changed.extend(changed.map(|error| ChangedRead {
                    node: node.name_any(),
                    time: error.last_time.0,
                    versions: published.keys().cloned().collect(),
                }));
                if !published.is_empty() {
                    usage.nodes.insert(node.name_any());
                }
                for (version, count) in published {
                    *usage.pods.entry(version).or_default() += count;
                }
            }
        }
        usage
    }

    /// Pods that use any version.
    pub fn pod_count(&self) -> i64 {
        self.pods.values().sum()
    }

    /// Whether pods use this version.
    pub fn uses(&self, version: &str) -> bool {
        self.pods.contains_key(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use granary_crds::MicroTime;
    use granary_crds::node_cache::{DatasetReport, NodeCacheSpec, ReadErrorReport, VersionReport};

    fn node(name: &str, reports: Vec<DatasetReport>) -> Arc<NodeCache> {
        let mut node = NodeCache::new(name, NodeCacheSpec {});
        node.status.get_or_insert_default().datasets = reports;
        Arc::new(node)
    }

    fn report(uid: &str, versions: &[(&str, i32)], errors: &[(&str, i64)]) -> DatasetReport {
        DatasetReport {
            uid: uid.to_owned(),
            versions: versions
                .iter()
                .map(|(name, pod_count)| VersionReport {
                    name: (*name).to_owned(),
                    pod_count: *pod_count,
                    ..VersionReport::default()
                })
                .collect(),
            read_errors: errors
                .iter()
                .map(|(reason, second)| ReadErrorReport {
                    reason: (*reason).to_owned(),
                    count: 1,
                    last_time: MicroTime(Timestamp::from_second(*second).unwrap()),
                })
                .collect(),
            ..DatasetReport::default()
        }
    }

    #[test]
    fn sums_the_pods_of_all_nodes() {
        let nodes = [
            node("n1", vec![report("u", &[("v1", 2), ("v2", 0)], &[]), report("other", &[("w", 9)], &[])]),
            node("n2", vec![report("u", &[("v1", 1), ("v3", 1)], &[])]),
            node("n3", vec![report("u", &[], &[])]),
        ];
        let usage = Usage::of("u", &nodes);
        assert_eq!(usage.pod_count(), 4);
        assert_eq!(usage.nodes.iter().map(String::as_str).collect::<Vec<_>>(), ["n1", "n2"]);
        assert!(usage.uses("v3") && !usage.uses("v2"));
    }

    #[test]
    fn only_replaced_and_deleted_objects_count_as_changed() {
        let errors = [("ObjectChanged", 7), ("EndpointUnreachable", 9), ("ObjectNotFound", 8)];
        let nodes = [node("n1", vec![report("u", &[("v1", 1)], &errors)])];
        let usage = Usage::of("u", &nodes);
        assert_eq!(usage.changed.iter().map(|read| read.time.as_second()).collect::<Vec<_>>(), [7, 8]);
        assert!(usage.changed[0].versions.contains("v1"));
    }
}
