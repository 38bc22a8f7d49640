//! The node process: its parts, and how they are put together.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use granary_crds::names::CSI_DRIVER;
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::cluster::Cluster;
use crate::grpc::identity::IdentityService;
use crate::grpc::node::NodeService;
use crate::grpc::registration::{self, Registered, RegistrationService};
use crate::grpc::socket::{SocketError, listen};
use crate::health::Health;
use crate::http;
use crate::metrics::Metrics;
use crate::mounter::Mounter;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::node_server::NodeServer;
use crate::proto::registration::registration_server::RegistrationServer;
use crate::publish::Publisher;

/// What the tasks of a node share.
pub struct Parts {
    /// Name of the Node.
    pub node: String,
    /// The API server.
    pub cluster: Arc<dyn Cluster>,
    /// The data plane.
    pub mounter: Arc<dyn Mounter>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Told when the node's report has something new to say.
    pub changed: Arc<Notify>,
    /// What is wrong with the caches of the classes.
    pub caches: watch::Sender<Option<String>>,
    registered: watch::Sender<Registered>,
}

impl Parts {
    /// The parts of the node `node`.
    pub fn new(node: String, cluster: Arc<dyn Cluster>, mounter: Arc<dyn Mounter>) -> Self {
        Self {
            node,
            cluster,
            metrics: Arc::new(Metrics::new(mounter.clone())),
            mounter,
            changed: Arc::default(),
            caches: watch::Sender::default(),
            registered: watch::Sender::default(),
        }
    }

    /// Whether the node mounts datasets.
    pub fn health(&self) -> Health {
        Health::new(self.mounter.clone(), self.registered.subscribe(), self.caches.subscribe())
    }

    /// Probes and metrics.
    pub fn router(&self) -> Router {
        http::router(self.health(), self.metrics.clone())
    }
}

/// Listens at the sockets of the driver below `kubelet`, then serves them for as long as the future is polled.
///
/// The kubelet calls as soon as it sees the registration's socket, so that one comes last.
pub fn serve(
    parts: &Parts,
    kubelet: &Path,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<>, SocketError> {
    let csi_socket = kubelet.join("plugins").join(CSI_DRIVER).join("csi.sock");
    let registration_socket = kubelet.join("plugins_registry").join(registration::SOCKET);
    let csi = listen(&csi_socket)?;
    let registration_listener = listen(&registration_socket)?;

    let publisher = Publisher::new(parts.cluster.clone(), parts.mounter.clone());
    let node = NodeService::new(
        parts.node.clone(),
        publisher,
        parts.mounter.clone(),
        parts.metrics.clone(),
        parts.changed.clone(),
    );
    let driver = Server::builder()
        .add_service(IdentityServer::new(IdentityService::new(parts.mounter.clone())))
        .add_service(NodeServer::new(node))
        .serve_with_incoming(UnixListenerStream::new(csi));
    let registration = Server::builder()
        .add_service(RegistrationServer::new(RegistrationService::new(csi_socket, parts.registered.clone())))
        .serve_with_incoming(UnixListenerStream::new(registration_listener));
    Ok(async move { tokio::try_join!(driver, registration).map(drop) })
}
