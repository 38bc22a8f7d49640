//! Pods that read without end and compare what they read. They report in a file that the machine shares with them, which takes
//! neither an API server nor a kubelet.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use granary_e2e::images::PROBE;
use serde::Deserialize;

use crate::lab::{PATIENCE, Space, claim_volume, lab};

/// A file of a dataset that nobody reads, so that its version is never complete.
pub const UNREAD: &str = "unread";

/// A pod that reads a dataset.
pub struct Reading {
    pod: String,
    report: PathBuf,
    /// Of what has been reported.
    told: Report,
}

/// What the probe writes.
#[derive(Default, Deserialize)]
struct Report {
    reads: Vec<u64>,
    slow: Vec<u64>,
    failures: Vec<String>,
}

/// Makes a dataset of files, of these sizes in MiB, whose content the readers know; `spec` is more of its spec.
pub fn make(space: &Space, dataset: &str, files: &[(&str, usize)], spec: &str) {
    for (name, mib) in files {
        let mut bytes = vec![0; mib << 20];
        granary_probe::content::fill(name, 0, &mut bytes);
        space.put_bytes(&format!("{dataset}/{name}"), bytes);
    }
    space.dataset_with(dataset, &format!("{}{dataset}/", space.uri()), spec);
}

impl Reading {
    /// Starts a pod that reads this dataset, and waits until it does.
    pub fn start(space: &Space, dataset: &str) -> Self {
        let pod = format!("reads-{dataset}");
        space.ready(dataset);
        space.apply_raw(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: {}}}\nspec:\n  restartPolicy: Never\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: {PROBE}\n    \
             imagePullPolicy: Never\n    args: [watch, /data, /shared/report, --unread={UNREAD}]\n    \
             volumeMounts: [{{name: data, mountPath: /data}}, {{name: shared, mountPath: /shared}}]\n  volumes:\n  \
             - {{name: shared, emptyDir: {{}}}}\n  - name: data\n    {}\n",
            space.name,
            claim_volume(dataset),
        ));
        space.running(&pod);
        let uid = space.value(&format!("pod/{pod}"), ".metadata.uid");
        let report = lab()
            .cluster
            .node()
            .kubelet_dir()
            .join(format!("pods/{uid}/volumes/kubernetes.io~empty-dir/shared/report"));
        let mut reading = Self { pod, report, told: Report::default() };
        reading.tell("begun");
        reading
    }

    /// Waits until each reader has ended a read that it has begun from now on, and fails if any read has failed since the
    /// beginning. Prints how many there were since the last time, and how long the longest took.
    pub fn tell(&mut self, what: &str) {
        let (begun, before) = (Instant::now(), self.look());
        let now = loop {
            let now = self.look();
            assert_eq!(now.failures, [""; 0], "{what}: reads of {} failed", self.pod);
            let more = |nth: usize| {
                now.reads.get(nth).zip(before.reads.get(nth)).is_some_and(|(now, before)| *now > before + 1)
            };
            if !now.reads.is_empty() && (0..now.reads.len()).all(more) {
                break now;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {} does not read on: {:?}", self.pod, now.reads);
            std::thread::sleep(Duration::from_millis(100));
        };
        let reads = now.reads.iter().sum::<u64>() - self.told.reads.iter().sum::<u64>();
        let longest = match now.slow[self.told.slow.len()..].iter().max() {
            Some(slow) => format!("{slow} ms"),
            None => "less than 100 ms".to_owned(),
        };
        println!("{what}: {}: {reads} reads, 0 errors, 0 wrong; the longest took {longest}", self.pod);
        self.told = now;
    }

    /// The report of now; an empty one before the first.
    fn look(&self) -> Report {
        match std::fs::read(&self.report) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Report::default(),
            Err(error) => panic!("{}: {error}", self.report.display()),
        }
    }
}
