//! `csi.v1.Node`: what the kubelet asks for its pods.

use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status};

use crate::guard::InFlight;
use crate::metrics::{Metrics, Operation};
use crate::mounter::{MountError, Mounter, Secret};
use crate::proto::csi::node_server::Node;
use crate::proto::csi::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
};
use crate::publish::{PublishError, PublishRequest, Publisher};

/// Why something could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum UnpublishError {
    /// The request names no volume.
    #[error("the request has no volume id")]
    NoVolumeId,
    /// The request names no target, or one that is no absolute path.
    #[error("the request's target must be an absolute path")]
    NoTarget,
    /// Another request for this target is being worked on.
    #[error("another request for this volume and pod is under way")]
    InFlight,
    /// It could not be unmounted.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Publishes datasets to the pods of one node.
#[derive(Clone)]
pub struct NodeService {
    node: String,
    publisher: Arc<Publisher>,
    mounter: Arc<dyn Mounter>,
    in_flight: InFlight,
    metrics: Arc<Metrics>,
    changed: Arc<Notify>,
}

impl NodeService {
    /// The service of the node `node`. `changed` is told of what the node's report should say soon.
    pub fn new(
        node: String,
        publisher: Publisher,
        mounter: Arc<dyn Mounter>,
        metrics: Arc<Metrics>,
        changed: Arc<Notify>,
    ) -> Self {
        Self { node, publisher: Arc::new(publisher), mounter, in_flight: InFlight::default(), metrics, changed }
    }

    async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), PublishError> {
        if request.volume_id.is_empty() {
            return Err(PublishError::NoVolumeId);
        }
        let target = target(&request.target_path).ok_or(PublishError::NoTarget)?;
        let _guard = self.in_flight.take(target).ok_or(PublishError::InFlight)?;
        let request = PublishRequest {
            volume_id: &request.volume_id,
            target,
            capability: request.volume_capability.as_ref(),
            context: &request.volume_context,
            secret: Secret(request.secrets.into_iter().collect()),
        };
        self.publisher.publish(request).await
    }

    async fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), UnpublishError> {
        if request.volume_id.is_empty() {
            return Err(UnpublishError::NoVolumeId);
        }
        let target = target(&request.target_path).ok_or(UnpublishError::NoTarget)?;
        let _guard = self.in_flight.take(target).ok_or(UnpublishError::InFlight)?;
        Ok(self.mounter.unpublish(&request.volume_id, target).await?)
    }

    /// Runs an operation to its end, also when the caller gives up; then logs and counts the outcome: an answer alone is seen by whoever
    /// looks at the pod, and by nobody else.
    async fn run<E, F>(&self, operation: Operation, volume_id: String, work: F) -> Result<(), Status>
    where
        E: Into<Status> + std::fmt::Display + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (metrics, changed) = (self.metrics.clone(), self.changed.clone());
        let work = tokio::spawn(async move {
            let begun = Instant::now();
            let outcome = work.await.map_err(|error| {
                let text = error.to_string();
                let status: Status = error.into();
                tracing::warn!(volume_id, operation = operation.name(), code = ?status.code(), "{text}");
                status
            });
            let code = outcome.as_ref().map_or_else(Status::code, |()| Code::Ok);
            metrics.finished(operation, code, begun.elapsed());
            changed.notify_one();
            outcome
        });
        work.await
            .unwrap_or_else(|error| Err(Status::internal(format!("the request was not worked on to its end: {error}"))))
    }
}

/// An absolute path without `..`.
fn target(text: &str) -> Option<&Path> {
    let path = Path::new(text);
    let plain = path.is_absolute() && !path.components().any(|part| matches!(part, Component::ParentDir));
    (plain && path.file_name().is_some()).then_some(path)
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let (service, request) = (self.clone(), request.into_inner());
        let volume_id = request.volume_id.clone();
        self.run(Operation::Publish, volume_id, async move { service.publish(request).await }).await?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let (service, request) = (self.clone(), request.into_inner());
        let volume_id = request.volume_id.clone();
        self.run(Operation::Unpublish, volume_id, async move { service.unpublish(request).await }).await?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node.clone(), ..NodeGetInfoResponse::default() }))
    }

    /// None. No staging: what is mounted is decided for each pod. No volume statistics: a dataset would be reported as a full disk, and
    /// a kubelet that is not told numbers does not touch the mount to find some.
    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        Ok(Response::new(NodeGetCapabilitiesResponse::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn targets_are_absolute_and_plain() {
        assert!(target("/var/lib/kubelet/pods/1/mount").is_some());
        for text in ["", "/", "relative", "/var/../etc"] {
            assert!(target(text).is_none(), "{text}");
        }
    }
}
