//! Stands between csi-sanity and the driver: adds pod information, the Secret and a reader's access mode to each publish, as
//! the kubelet does, and stands in for the provisioner that makes volumes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use granary_csi_driver::proto::csi;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// What is added to each publish.
#[derive(Clone)]
pub struct Proxy {
    pub driver: PathBuf,
    pub attributes: HashMap<String, String>,
    pub pod: HashMap<String, String>,
    pub secrets: HashMap<String, String>,
}

/// The proxy serves until this is dropped.
pub struct Serving(tokio::task::JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    pub async fn serve(self, socket: &Path) -> Serving {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let channel = Endpoint::try_from(format!("unix://{}", self.driver.display())).unwrap().connect().await.unwrap();
        let shared = Shared { proxy: self, channel };
        let server = Server::builder()
            .add_service(csi::identity_server::IdentityServer::new(shared.clone()))
            .add_service(csi::controller_server::ControllerServer::new(shared.clone()))
            .add_service(csi::node_server::NodeServer::new(shared))
            .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener));
        Serving(tokio::spawn(async move { server.await.unwrap() }))
    }
}

#[derive(Clone)]
struct Shared {
    proxy: Proxy,
    channel: Channel,
}

impl Shared {
    fn identity(&self) -> csi::identity_client::IdentityClient<Channel> {
        csi::identity_client::IdentityClient::new(self.channel.clone())
    }

    fn node(&self) -> csi::node_client::NodeClient<Channel> {
        csi::node_client::NodeClient::new(self.channel.clone())
    }
}

#[tonic::async_trait]
impl csi::identity_server::Identity for Shared {
    async fn get_plugin_info(
        &self,
        request: Request<csi::GetPluginInfoRequest>,
    ) -> Result<Response<csi::GetPluginInfoResponse>, Status> {
        self.identity().get_plugin_info(request).await
    }

    /// The driver's own, and the controller that the proxy stands in for.
    async fn get_plugin_capabilities(
        &self,
        request: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<csi::GetPluginCapabilitiesResponse>, Status> {
        use csi::plugin_capability::{Service, Type, service};
        let mut answer = self.identity().get_plugin_capabilities(request).await?;
        let controller = Type::Service(Service { r#type: service::Type::ControllerService.into() });
        answer.get_mut().capabilities.push(csi::PluginCapability { r#type: Some(controller) });
        Ok(answer)
    }

    async fn probe(&self, request: Request<csi::ProbeRequest>) -> Result<Response<csi::ProbeResponse>, Status> {
        self.identity().probe(request).await
    }
}

#[tonic::async_trait]
impl csi::controller_server::Controller for Shared {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        let volume = csi::Volume {
            volume_id: request.into_inner().name,
            volume_context: self.proxy.attributes.clone(),
            ..Default::default()
        };
        Ok(Response::new(csi::CreateVolumeResponse { volume: Some(volume) }))
    }

    async fn delete_volume(
        &self,
        _request: Request<csi::DeleteVolumeRequest>,
    ) -> Result<Response<csi::DeleteVolumeResponse>, Status> {
        Ok(Response::new(csi::DeleteVolumeResponse::default()))
    }

    async fn controller_get_capabilities(
        &self,
        _request: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<csi::ControllerGetCapabilitiesResponse>, Status> {
        use csi::controller_service_capability::{Rpc, Type, rpc};
        let rpc = Type::Rpc(Rpc { r#type: rpc::Type::CreateDeleteVolume.into() });
        let capabilities = vec![csi::ControllerServiceCapability { r#type: Some(rpc) }];
        Ok(Response::new(csi::ControllerGetCapabilitiesResponse { capabilities }))
    }
}

#[tonic::async_trait]
impl csi::node_server::Node for Shared {
    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Result<Response<csi::NodePublishVolumeResponse>, Status> {
        let mut request = request.into_inner();
        request.volume_context.extend(self.proxy.pod.clone());
        request.secrets.extend(self.proxy.secrets.clone());
        // A claim of ReadOnlyMany is all that Kubernetes lets through to the kubelet.
        if let Some(mode) = request.volume_capability.as_mut().and_then(|c| c.access_mode.as_mut()) {
            mode.set_mode(csi::volume_capability::access_mode::Mode::MultiNodeReaderOnly);
        }
        self.node().node_publish_volume(request).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<csi::NodeUnpublishVolumeResponse>, Status> {
        self.node().node_unpublish_volume(request).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<csi::NodeGetVolumeStatsResponse>, Status> {
        self.node().node_get_volume_stats(request).await
    }

    async fn node_get_capabilities(
        &self,
        request: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<csi::NodeGetCapabilitiesResponse>, Status> {
        self.node().node_get_capabilities(request).await
    }

    async fn node_get_info(
        &self,
        request: Request<csi::NodeGetInfoRequest>,
    ) -> Result<Response<csi::NodeGetInfoResponse>, Status> {
        self.node().node_get_info(request).await
    }
}
