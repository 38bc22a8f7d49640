//! A server is killed while the kernel reads the cache's file itself, and another one takes its place: readers notice
//! neither, and nothing is freed below them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use granary_blob::PoolConfig;
use granary_serve::MountLayout::{EROFSFile, EROFSLoopFUSE, EROFSLoopNative};
use granary_serve::{MountLayout, Server, ServerConfig};

use crate::adoption::Predecessor;
use crate::fixture::{Fixture, SIZES, layouts, published, wait_for, wait_until};

/// A server whose cache may hold less than is there.
async fn with_small_cache(fixture: &Fixture) -> Arc<Server> {
    let mut config: ServerConfig = fixture.config();
    let pool = PoolConfig { max_bytes: Some(5 << 20), ..config.pools["local"].clone() };
    config.pools.insert("local".to_owned(), pool);
    Server::start(config).await.unwrap()
}

fn cached(server: &Server) -> u64 {
    server.report().datasets.iter().map(|dataset| dataset.cached_bytes).sum()
}

/// Damages what says which parts are cached.
fn damage_map(fixture: &Fixture) {
    let map = OpenOptions::new().read(true).write(true).open(fixture.dir.join("cache/blobs/blob-v1/parts")).unwrap();
    map.write_all_at(&[0xff; 16], 512 + 16).unwrap();
}

/// Unpublishes all, and sees that nothing is left or held.
async fn end(fixture: &Fixture, server: &Arc<Server>) {
    for target in ["a", "b"] {
        fixture.unpublish(server, target).await.unwrap();
    }
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
    fixture.limit(server, 4);
    wait_until("eviction", || cached(server) <= 4 << 20).await;
}

async fn killed(layout: MountLayout) -> Fixture {
    let fixture = Fixture::new().await;
    Predecessor::start_with(&fixture, layout).kill();
    // Nobody serves, and nobody needs to.
    fixture.assert_same_anew("a");
    fixture
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn native_mounts_of_a_killed_server_stay_as_they_are() {
    for layout in [EROFSFile, EROFSLoopNative] {
        let fixture = killed(layout).await;
        let mounts = fixture.mounts();
        let server = fixture.server().await;
        assert_eq!((layouts(&server), fixture.mounts()), (vec![layout], mounts));
        assert_eq!(published(&server), [("v1".to_owned(), 2)]);
        fixture.assert_same_anew("a");
        fixture.assert_same_anew("b");
        assert_eq!(server.report().traffic.served_bytes, 0);
        // A further pod has the same mount.
        let version = fixture.version("v1", None).await;
        fixture.publish(&server, "c", &version).await.unwrap();
        fixture.assert_same_anew("c");
        assert_eq!(server.report().traffic.served_bytes, 0);
        fixture.unpublish(&server, "c").await.unwrap();
        end(&fixture, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn nothing_is_freed_below_a_native_mount_though_the_room_is_needed_at_once() {
    let fixture = killed(EROFSFile).await;
    let server = with_small_cache(&fixture).await;
    fixture.assert_same_anew("a");
    assert_eq!((layouts(&server), cached(&server) > 5 << 20), (vec![EROFSFile], true));
    end(&fixture, &server).await;
    drop((server, fixture));

    let fixture = killed(EROFSLoopNative).await;
    let server = with_small_cache(&fixture).await;
    wait_until("eviction", || cached(&server) <= 5 << 20).await;
    assert_eq!(layouts(&server), [EROFSLoopFUSE], "it was given back");
    fixture.assert_same_anew("a");
    end(&fixture, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_damaged_map_never_frees_what_is_mounted() {
    let fixture = killed(EROFSFile).await;
    damage_map(&fixture);
    let server = with_small_cache(&fixture).await;
    assert_eq!((layouts(&server), cached(&server)), (vec![EROFSFile], 0));
    fixture.assert_same_anew("a");
    end(&fixture, &server).await;
    drop((server, fixture));

    let fixture = killed(EROFSLoopNative).await;
    damage_map(&fixture);
    let server = fixture.server().await;
    fixture.assert_same_anew("a");
    // What was lost is fetched again, and the version moves to the new file.
    wait_for(&server, &[EROFSLoopNative]).await;
    fixture.assert_same_anew("b");
    end(&fixture, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_lost_manifest_never_frees_what_is_mounted() {
    for layout in [EROFSFile, EROFSLoopNative] {
        let fixture = killed(layout).await;
        for entry in fs::read_dir(fixture.dir.join("state/versions")).unwrap() {
            fs::remove_file(entry.unwrap().path().join("manifest.json")).unwrap();
        }
        let server = with_small_cache(&fixture).await;
        fixture.assert_same_anew("a");
        let version = fixture.version("v1", None).await;
        fixture.publish(&server, "a", &version).await.unwrap();
        fixture.assert_same_anew("a");
        fixture.assert_same_anew("b");
        end(&fixture, &server).await;
    }
}

/// Somebody has a file open whose mount nobody sees any more.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn what_lives_on_unseen_is_not_freed() {
    let fixture = killed(EROFSFile).await;
    let (path, size) = SIZES[6];
    let file = File::open(fixture.target("a").join(path)).unwrap();
    fixture.unmount_all();
    let server = with_small_cache(&fixture).await;
    assert_eq!(fixture.mounts().len(), 0);
    crate::fixture::forget(&file);
    let mut found = vec![0; size];
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found == fs::read(fixture.dir.join("source").join(path)).unwrap());
    assert!(cached(&server) > 5 << 20);
    drop(file);
    end(&fixture, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_reboot_after_an_orderly_end_needs_no_check_and_one_after_a_crash_does() {
    for orderly in [true, false] {
        let fixture = Fixture::new().await;
        let version = fixture.version("v1", None).await;
        if orderly {
            let server = fixture.server().await;
            fixture.publish(&server, "a", &version).await.unwrap();
            fixture.assert_same("a");
            server.stop(true).await;
        } else {
            Predecessor::start_with(&fixture, EROFSFile).kill();
            fixture.unmount_all();
        }
        let server = fixture.server_again().await;
        fixture.publish(&server, "a", &version).await.unwrap();
        if orderly {
            assert_eq!(layouts(&server), [EROFSFile]);
        } else {
            assert_eq!(fixture.image_loops(), 1);
            wait_for(&server, &[EROFSLoopNative]).await;
        }
        fixture.assert_same_anew("a");
        assert_eq!(server.report().traffic.source_bytes, 0);
        server.stop(true).await;
        assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
    }
}

/// With the server in this process ended and not killed, its mounts are found as they are.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn an_orderly_end_leaves_native_mounts_alone() {
    let fixture = Fixture::new().await;
    let server = fixture.server().await;
    let version = fixture.version("v1", None).await;
    fixture.publish(&server, "a", &version).await.unwrap();
    fixture.assert_same("a");
    wait_for(&server, &[EROFSLoopNative]).await;
    server.stop(false).await;
    fixture.assert_same_anew("a");
    drop(server);
    let server = fixture.server_again().await;
    assert_eq!(layouts(&server), [EROFSLoopNative]);
    fixture.assert_same_anew("a");
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}
