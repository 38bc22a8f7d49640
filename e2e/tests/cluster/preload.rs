//! What a Dataset asks for is there before anybody reads it.

use std::time::Instant;

use crate::lab::{PATIENCE, Space, claim_volume, lab};

#[test]
#[ignore = "needs the cluster"]
fn a_preloaded_version_is_complete_without_a_reader() {
    let space = Space::new("preload");
    let content = "0123456789abcdef".repeat(100_000);
    space.put(&[("a.bin", &content), ("b/c.txt", "text")]);
    space.dataset_with("d", &space.uri(), "  preload: true\n");
    space.ready("d");
    // It looks at nothing of what is mounted.
    space.start("idle", &claim_volume("d"), "sleep 1000");
    space.running("idle");
    let uid = space.value("dataset/d", ".metadata.uid");
    let size: i64 = space.value("dataset/d", ".status.currentVersion.sizeBytes").parse().unwrap();
    let begun = Instant::now();
    loop {
        let (cached, layouts) = reported(&uid);
        if cached >= size && !layouts.is_empty() && layouts.iter().all(|layout| *layout != "EROFSLoopFUSE") {
            assert!(
                layouts.iter().all(|layout| ["EROFSLoopNative", "EROFSFile"].contains(&layout.as_str())),
                "{layouts:?}"
            );
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{cached} of {size} bytes are cached, mounted as {layouts:?}");
        // Nodes report every 15 s.
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    // Nothing is left to ask the source for.
    space.remove("a.bin");
    assert_eq!(space.exec("idle", "wc -c < /data/a.bin; cat /data/b/c.txt").unwrap(), "1600000\ntext");
}

/// Bytes that all nodes have of a dataset, and the layouts of its mounts.
pub fn reported(uid: &str) -> (i64, Vec<String>) {
    let text = lab().kubectl.run(["get", "nodecaches", "-o", "json"]).unwrap();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let nodes = list["items"].as_array().into_iter().flatten();
    let all = nodes.flat_map(|node| node["status"]["datasets"].as_array().into_iter().flatten());
    let datasets: Vec<_> = all.filter(|dataset| dataset["uid"] == uid).collect();
    let cached = datasets.iter().filter_map(|dataset| dataset["cachedBytes"].as_i64()).sum();
    let versions = datasets.iter().flat_map(|dataset| dataset["versions"].as_array().into_iter().flatten());
    let layouts = versions.map(|version| version["layout"].as_str().unwrap_or_default().to_owned());
    (cached, layouts.collect())
}
