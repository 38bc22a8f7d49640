//! `pluginregistration.Registration`: how the kubelet learns of the driver, without a sidecar.

use std::path::PathBuf;

use granary_crds::names::CSI_DRIVER;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse, registration_server::Registration,
};

/// File name of the registration's socket in the kubelet's `plugins_registry`.
///
/// The kubelet sends the socket's path, percent-encoded, as the `:authority` of its calls. In an authority such characters are allowed
/// only before an '@' (RFC 3986, section 3.2.1), and the HTTP/2 implementation below tonic refuses a request with others.
pub const SOCKET: &str = "granary@csi.granary.dev-reg.sock";

/// What the kubelet has said about the registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Registered {
    /// Nothing yet.
    #[default]
    Waiting,
    /// The driver is registered.
    Yes,
    /// It was refused, for this reason.
    No(String),
}

/// Answers the kubelet's plugin watcher.
pub struct RegistrationService {
    csi_socket: PathBuf,
    registered: watch::Sender<Registered>,
}

impl RegistrationService {
    /// Registers the driver that serves `csi_socket`; the outcome goes to `registered`.
    pub fn new(csi_socket: PathBuf, registered: watch::Sender<Registered>) -> Self {
        Self { csi_socket, registered }
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: CSI_DRIVER.to_owned(),
            endpoint: self.csi_socket.display().to_string(),
            // Of CSI, not of the driver.
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        let registered = if status.plugin_registered {
            tracing::info!("registered with the kubelet");
            Registered::Yes
        } else {
            // The kubelet tries again by itself.
            tracing::error!(error = status.error, "the kubelet refused the registration");
            Registered::No(status.error)
        };
        self.registered.send_replace(registered);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
