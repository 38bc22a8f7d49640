//! `csi.v1.Identity`: who this is.

use std::sync::Arc;

use granary_crds::names::CSI_DRIVER;
use tonic::{Request, Response, Status};

use crate::mounter::Mounter;
use crate::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    ProbeRequest, ProbeResponse, identity_server::Identity,
};

/// Answers who this is.
pub struct IdentityService {
    mounter: Arc<dyn Mounter>,
}

impl IdentityService {
    /// Ready if `mounter` can mount.
    pub fn new(mounter: Arc<dyn Mounter>) -> Self {
        Self { mounter }
    }
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: CSI_DRIVER.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..GetPluginInfoResponse::default()
        }))
    }

    /// None: there is no Controller service; volumes are made by the operator.
    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse::default()))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(self.mounter.support().is_ok()) }))
    }
}
