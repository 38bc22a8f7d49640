//! A driver that serves a socket in a directory of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use granary_csi_driver::cluster::Remembering;
use granary_csi_driver::node::{Parts, serve};
use granary_csi_driver::proto::csi::identity_client::IdentityClient;
use granary_csi_driver::proto::csi::node_client::NodeClient;
use granary_csi_driver::proto::csi::volume_capability::access_mode::Mode;
use granary_csi_driver::proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use granary_csi_driver::proto::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest, VolumeCapability};
use granary_csi_driver::proto::registration::registration_client::RegistrationClient;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cluster::{FakeCluster, UID, cluster};
use crate::mounter::FakeMounter;

/// A driver that runs until it is dropped.
pub struct Driver {
    pub cluster: Arc<FakeCluster>,
    /// The same, as the driver asks it.
    pub remembering: Arc<Remembering>,
    pub mounter: Arc<FakeMounter>,
    pub parts: Parts,
    kubelet: TempDir,
    server: JoinHandle<()>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Driver {
    pub async fn start() -> Self {
        Self::start_with(Duration::from_secs(3600)).await
    }

    /// A driver that relies on what it was told for so long, when nobody answers.
    pub async fn start_with(max_age: Duration) -> Self {
        let kubelet = tempfile::tempdir().unwrap();
        let (cluster, mounter) = (Arc::new(cluster()), Arc::new(FakeMounter::default()));
        let remembering = Arc::new(Remembering::new(cluster.clone(), max_age));
        let parts = Parts::new("node1".into(), remembering.clone(), mounter.clone());
        let server = serve(&parts, kubelet.path()).unwrap();
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self { cluster, remembering, mounter, parts, kubelet, server }
    }

    pub fn kubelet(&self) -> &Path {
        self.kubelet.path()
    }

    /// Where the pod `pod` expects a volume.
    pub fn target(&self, pod: &str) -> PathBuf {
        self.kubelet().join(format!("pods/{pod}/volumes/kubernetes.io~csi/data/mount"))
    }

    pub async fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(connect(self.kubelet().join("plugins/csi.granary.dev/csi.sock")).await)
    }

    pub async fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(connect(self.kubelet().join("plugins/csi.granary.dev/csi.sock")).await)
    }

    pub async fn registration(&self) -> RegistrationClient<Channel> {
        let socket = self.kubelet().join("plugins_registry/granary@csi.granary.dev-reg.sock");
        // The kubelet names the socket's encoded path as the authority here, and "localhost" at the driver's own socket.
        let authority = socket.display().to_string().replace('/', "%2F");
        RegistrationClient::new(connect_as(&authority, socket).await)
    }

    /// A request for `vision/imagenet`, for a pod of that namespace.
    pub fn request(&self, pod: &str) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: "pv-1".into(),
            target_path: self.target(pod).display().to_string(),
            volume_capability: Some(reader()),
            readonly: true,
            volume_context: context(&[
                ("dataset", "imagenet"),
                ("namespace", "vision"),
                ("uid", UID),
                ("csi.storage.k8s.io/pod.name", pod),
                ("csi.storage.k8s.io/pod.namespace", "vision"),
                ("csi.storage.k8s.io/serviceAccount.name", "default"),
                ("csi.storage.k8s.io/ephemeral", "false"),
            ]),
            ..NodePublishVolumeRequest::default()
        }
    }

    /// The same with other attributes; an empty value takes one away.
    pub fn request_with(&self, pod: &str, attributes: &[(&str, &str)]) -> NodePublishVolumeRequest {
        let mut request = self.request(pod);
        for (key, value) in attributes {
            match value.is_empty() {
                true => request.volume_context.remove(*key),
                false => request.volume_context.insert((*key).into(), (*value).into()),
            };
        }
        request
    }

    /// A request for an inline volume.
    pub fn inline(&self, pod: &str, attributes: &[(&str, &str)]) -> NodePublishVolumeRequest {
        let mut request =
            self.request_with(pod, &[("namespace", ""), ("uid", ""), ("csi.storage.k8s.io/ephemeral", "true")]);
        request.volume_id = format!("csi-{pod}");
        request.volume_context.extend(context(attributes));
        // The kubelet makes this up for inline volumes.
        request.volume_capability.as_mut().unwrap().access_mode =
            Some(AccessMode { mode: Mode::SingleNodeWriter.into() });
        request
    }

    pub async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        self.node().await.node_publish_volume(request).await.map(drop)
    }

    /// Publishing fails with this code and a message that has these words; and nothing is mounted.
    pub async fn refuses(&self, request: NodePublishVolumeRequest, code: Code, words: &[&str]) {
        let target = PathBuf::from(&request.target_path);
        let status = self.publish(request).await.expect_err("published");
        assert_eq!(status.code(), code, "{}", status.message());
        for word in words {
            assert!(status.message().contains(word), "'{word}' is not in: {}", status.message());
        }
        assert_eq!(self.mounter.version_at(&target), None);
    }

    pub async fn unpublish(&self, pod: &str) -> Result<(), Status> {
        let target_path = self.target(pod).display().to_string();
        let request = NodeUnpublishVolumeRequest { volume_id: "pv-1".into(), target_path };
        self.node().await.node_unpublish_volume(request).await.map(drop)
    }
}

pub fn reader() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::MultiNodeReaderOnly.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

pub fn context(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn connect(socket: PathBuf) -> Channel {
    connect_as("localhost", socket).await
}

async fn connect_as(authority: &str, socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_shared(format!("http://{authority}")).unwrap().connect_with_connector(connector).await.unwrap()
}
