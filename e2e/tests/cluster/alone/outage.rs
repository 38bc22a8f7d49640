//! The API server is killed, etcd forgets its history, and both come back: what is mounted is read, what is known can be mounted, and
//! what waits starts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use granary_csi_driver::proto::csi;
use granary_csi_driver::proto::csi::node_client::NodeClient;
use granary_csi_driver::proto::csi::volume_capability::access_mode::Mode;
use granary_csi_driver::proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use granary_e2e::cluster::Cluster;
use granary_e2e::cluster::layout::ETCD_PORT;
use granary_e2e::daemon;
use granary_e2e::images::BUSYBOX;
use granary_e2e::s3::READER;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::processes;
use crate::lab::{PATIENCE, Space, claim_volume, lab, wait_until};

#[test]
#[ignore = "needs the cluster"]
fn pods_read_on_while_the_api_server_is_away_and_start_when_it_is_back() {
    let space = Space::new("outage");
    space.put(&[("a.txt", "before"), ("b.txt", "meanwhile"), ("c.txt", "long after"), ("d.txt", "published")]);
    space.dataset("d");
    space.ready("d");
    let reader = Reader::start(&space);
    assert_eq!(reader.read("a.txt"), "before");
    let publisher = Publisher::new(&space);

    let outage = Outage::begin();
    // Nobody has read this one: the node process fetches it.
    assert_eq!(reader.read("b.txt"), "meanwhile");
    publisher.publish(&[]).unwrap();
    assert_eq!(std::fs::read(publisher.target().join("d.txt")).unwrap(), b"published");
    publisher.unpublish();
    let unknown = publisher.publish(&[("version", "d-0000000000")]).unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable, "{unknown}");
    assert!(unknown.message().contains("has not heard of this"), "{unknown}");
    outage.wait_for_the_operators_end();
    assert_eq!(reader.read("c.txt"), "long after");
    lab().wait(compact());
    outage.end();

    assert_eq!(space.run("after", "d", "cat /data/a.txt /data/b.txt").unwrap(), "beforemeanwhile");
    assert_eq!(space.value("pod/reads", ".status.containerStatuses[0].restartCount"), "0");
    space.put(&[("e.txt", "new")]);
    space.kubectl(&["patch", "dataset", "d", "--type=merge", "-p", r#"{"spec":{"refresh":{"manual":"1"}}}"#]).unwrap();
    lab().kubectl.wait(&space.name, "dataset/d", "jsonpath={.status.refresh.lastManual}=1", PATIENCE).unwrap();
    assert_eq!(space.run("new", "d", "cat /data/e.txt").unwrap(), "new");
}

/// The API server is away until this ends, or is dropped.
struct Outage {
    operators: Vec<u32>,
}

impl Outage {
    fn begin() -> Self {
        let operators = operators();
        assert!(!operators.is_empty(), "no operator runs");
        daemon::stop(lab().cluster.paths(), "kube-apiserver", Duration::ZERO).unwrap();
        assert!(lab().kubectl.run(["get", "namespaces"]).is_err(), "the API server answers");
        Self { operators }
    }

    /// An operator that cannot renew its Lease ends, and leads no more; the kubelet starts another one, which waits.
    fn wait_for_the_operators_end(&self) {
        wait_until("the operator has ended", || operators().iter().all(|pid| !self.operators.contains(pid)));
    }

    fn end(self) {}
}

impl Drop for Outage {
    fn drop(&mut self) {
        // Starts what does not run.
        let back = Cluster::up(lab().cluster.paths());
        if !std::thread::panicking() {
            back.unwrap();
        }
    }
}

fn operators() -> Vec<u32> {
    processes::of(&["/usr/bin/granary-operator", "run"])
}

/// Makes etcd forget its history: every watch that ended with the API server has lost its place.
async fn compact() {
    // Another user of TLS may have chosen one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let ask = async |what: &str, body: Value| -> Value {
        let url = format!("http://127.0.0.1:{ETCD_PORT}/v3/kv/{what}");
        let answer = client.post(url).body(body.to_string()).send().await.unwrap().error_for_status().unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    };
    // The key "\0", which is not there: what matters is the revision in the answer.
    let now = ask("range", json!({"key": "AA=="})).await;
    let revision = now["header"]["revision"].as_str().unwrap().to_owned();
    ask("compaction", json!({"revision": revision, "physical": true})).await;
}

/// A pod that reads files as it is told, by files in a directory that the machine shares with it: without any API server.
struct Reader {
    shared: PathBuf,
}

impl Reader {
    fn start(space: &Space) -> Self {
        let script = "while sleep 0.1; do for ask in /shared/*.ask; do [ -e $ask ] || continue; name=$(basename $ask .ask); \
                      rm $ask; cat /data/$name > /shared/$name.part 2>&1; mv /shared/$name.part /shared/$name.read; done; done";
        space.apply_raw(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: reads, namespace: {}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
             containers:\n  - name: main\n    image: {BUSYBOX}\n    imagePullPolicy: Never\n    command: [sh, -c, {}]\n    \
             volumeMounts: [{{name: data, mountPath: /data}}, {{name: shared, mountPath: /shared}}]\n  volumes:\n  \
             - {{name: shared, emptyDir: {{}}}}\n  - name: data\n    {}\n",
            space.name,
            serde_json::to_string(script).unwrap(),
            claim_volume("d"),
        ));
        space.running("reads");
        let pod = lab().cluster.node().kubelet_dir().join("pods").join(space.value("pod/reads", ".metadata.uid"));
        Self { shared: pod.join("volumes/kubernetes.io~empty-dir/shared") }
    }

    /// What the pod reads of a file.
    fn read(&self, name: &str) -> String {
        let answer = self.shared.join(format!("{name}.read"));
        std::fs::write(self.shared.join(format!("{name}.ask")), "").unwrap();
        wait_until("the pod has read", || answer.exists());
        std::fs::read_to_string(answer).unwrap()
    }
}

/// Publishes the dataset of a space as the kubelet does, for one more pod.
struct Publisher {
    plugin: PathBuf,
    attributes: HashMap<String, String>,
}

impl Publisher {
    fn new(space: &Space) -> Self {
        let attributes = [
            ("dataset", "d".to_owned()),
            ("namespace", space.name.clone()),
            ("uid", space.value("dataset/d", ".metadata.uid")),
            ("csi.storage.k8s.io/pod.name", "direct".to_owned()),
            ("csi.storage.k8s.io/pod.namespace", space.name.clone()),
            ("csi.storage.k8s.io/pod.uid", "00000000-0000-0000-0000-000000000000".to_owned()),
            ("csi.storage.k8s.io/serviceAccount.name", "default".to_owned()),
            ("csi.storage.k8s.io/ephemeral", "false".to_owned()),
        ];
        let plugin = lab().cluster.node().kubelet_dir().join("plugins/csi.granary.dev");
        std::fs::create_dir_all(plugin.join("outage")).unwrap();
        let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { plugin, attributes }
    }

    /// Below a directory that the driver's container sees.
    fn target(&self) -> PathBuf {
        self.plugin.join("outage/mount")
    }

    fn publish(&self, more: &[(&str, &str)]) -> Result<(), Status> {
        let mut attributes = self.attributes.clone();
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let keys = [("AWS_ACCESS_KEY_ID", READER.access_key), ("AWS_SECRET_ACCESS_KEY", READER.secret_key)];
        let request = csi::NodePublishVolumeRequest {
            volume_id: "outage".to_owned(),
            target_path: self.target().display().to_string(),
            volume_capability: Some(csi::VolumeCapability {
                access_mode: Some(AccessMode { mode: Mode::MultiNodeReaderOnly.into() }),
                access_type: Some(AccessType::Mount(MountVolume::default())),
            }),
            readonly: true,
            secrets: keys.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            volume_context: attributes,
            ..Default::default()
        };
        lab().wait(async { node(&self.plugin).await.node_publish_volume(request).await }).map(drop)
    }

    fn unpublish(&self) {
        let target_path = self.target().display().to_string();
        let request = csi::NodeUnpublishVolumeRequest { volume_id: "outage".to_owned(), target_path };
        lab().wait(async { node(&self.plugin).await.node_unpublish_volume(request).await }).unwrap();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.target().exists() {
            self.unpublish();
        }
        std::fs::remove_dir_all(self.plugin.join("outage")).unwrap();
    }
}

async fn node(plugin: &Path) -> NodeClient<Channel> {
    let socket = format!("unix://{}", plugin.join("csi.sock").display());
    NodeClient::new(Endpoint::try_from(socket).unwrap().connect().await.unwrap())
}
