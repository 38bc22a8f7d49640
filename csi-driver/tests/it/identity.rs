//! Who the driver says it is.

use granary_csi_driver::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest,
    NodeGetVolumeStatsRequest, ProbeRequest,
};
use tonic::Code;

use crate::driver::Driver;

#[tokio::test]
async fn has_the_name_of_the_csidriver_object() {
    let driver = Driver::start().await;
    let info = driver.identity().await.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.name.as_str(), info.vendor_version.as_str()), ("csi.granary.dev", env!("CARGO_PKG_VERSION")));
    let node = driver.node().await.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(node.node_id, "node1");
}

#[tokio::test]
async fn has_no_controller_no_staging_and_no_statistics() {
    let driver = Driver::start().await;
    let plugin = driver.identity().await.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
    assert!(plugin.into_inner().capabilities.is_empty());
    let mut node = driver.node().await;
    assert!(
        node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap().into_inner().capabilities.is_empty()
    );
    let stats = node.node_get_volume_stats(NodeGetVolumeStatsRequest::default()).await;
    assert_eq!(stats.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_probe_tells_of_the_kernel() {
    let driver = Driver::start().await;
    let mut identity = driver.identity().await;
    assert_eq!(identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));
    driver.mounter.change(|mounts| mounts.unsupported = Some("no EROFS".into()));
    assert_eq!(identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(false));
}
