//! The kubelet's plugin watcher.

use std::os::unix::fs::PermissionsExt;

use granary_csi_driver::proto::registration::{InfoRequest, RegistrationStatus};

use crate::driver::Driver;

#[tokio::test]
async fn tells_the_kubelet_where_the_driver_is() {
    let driver = Driver::start().await;
    let info = driver.registration().await.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "csi.granary.dev"));
    assert_eq!(info.endpoint, driver.kubelet().join("plugins/csi.granary.dev/csi.sock").display().to_string());
    assert_eq!(info.supported_versions, ["1.0.0"]);
}

#[tokio::test]
async fn only_root_reaches_the_sockets() {
    let driver = Driver::start().await;
    for socket in ["plugins/csi.granary.dev/csi.sock", "plugins_registry/granary@csi.granary.dev-reg.sock"] {
        let mode = std::fs::metadata(driver.kubelet().join(socket)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{socket}");
    }
}

#[tokio::test]
async fn a_refused_registration_is_part_of_the_readiness() {
    let driver = Driver::start().await;
    let health = driver.parts.health();
    assert!(health.unready().unwrap().contains("not registered"));
    let mut registration = driver.registration().await;
    let refused = RegistrationStatus { plugin_registered: false, error: "wrong version".into() };
    registration.notify_registration_status(refused).await.unwrap();
    assert!(health.unready().unwrap().contains("wrong version"));
    let accepted = RegistrationStatus { plugin_registered: true, error: String::new() };
    registration.notify_registration_status(accepted).await.unwrap();
    assert_eq!(health.unready(), None);
}
