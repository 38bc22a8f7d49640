//! The machine reboots: every process is gone, and with them every mount and loop device. What is left are the directories. The kubelet
//! publishes again what its pods had, at the same targets.

use std::sync::Arc;

use granary_serve::{MountLayout, Server};

use crate::adoption::Predecessor;
use crate::fixture::{Fixture, published, wait_until};

/// All that a reboot leaves of a server that had this layout.
async fn rebooted(layout: MountLayout) -> Fixture {
    let fixture = Fixture::new().await;
    Predecessor::start_with(&fixture, layout).kill();
    fixture.unmount_all();
    wait_until("the loop devices to go", || fixture.image_loops() == 0).await;
    assert_eq!(fixture.mounts().len(), 0);
    fixture
}

fn requests(server: &Server) -> u64 {
    server.report().traffic.source_requests
}

/// Publishes at both targets, as the kubelet does when it starts.
async fn publish_again(fixture: &Fixture, server: &Arc<Server>) {
    assert!(!server.is_published(&fixture.target("a")) && !server.is_published(&fixture.target("b")));
    let version = fixture.version("v1", None).await;
    for target in ["a", "b"] {
        fixture.publish(server, target, &version).await.unwrap();
    }
    assert_eq!(published(server), [("v1".to_owned(), 2)]);
    fixture.assert_same_anew("a");
    fixture.assert_same_anew("b");
}

async fn end(fixture: &Fixture, server: &Arc<Server>) {
    for target in ["a", "b"] {
        fixture.unpublish(server, target).await.unwrap();
    }
    assert_eq!((fixture.mounts().len(), fixture.image_loops(), fixture.kept()), (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn after_a_reboot_pods_read_the_cache_and_the_source_is_not_asked() {
    for layout in [MountLayout::EROFSLoopNative, MountLayout::EROFSFile] {
        let fixture = rebooted(layout).await;
        let server = fixture.server().await;
        publish_again(&fixture, &server).await;
        assert_eq!(requests(&server), 0, "{layout:?}: all of it was cached");
        end(&fixture, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn after_a_reboot_only_what_was_not_cached_is_fetched() {
    let fixture = rebooted(MountLayout::EROFSLoopFUSE).await;
    let server = fixture.server().await;
    publish_again(&fixture, &server).await;
    let fetched = server.report().traffic.source_bytes;
    let all: usize = crate::fixture::SIZES.iter().map(|(_, size)| size).sum();
    assert!(requests(&server) > 0 && fetched <= all as u64, "{fetched} of {all} bytes were fetched");
    end(&fixture, &server).await;
}
