//! Bits that change on the disk, below mounts.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use granary_serve::MountLayout::{self, EROFSFile, EROFSLoopNative};
use granary_serve::Server;

use crate::adoption::Predecessor;
use crate::fixture::{Fixture, forget, layouts, wait_for, wait_until};

/// A byte of the file `big`, and where the blob has it.
const IN_BIG: u64 = 1 << 20;

/// Changes a bit of `big` in the cache's file.
fn flip(fixture: &Fixture) {
    let data = fixture.dir.join("cache/blobs/blob-v1/data");
    let data = OpenOptions::new().read(true).write(true).open(data).unwrap();
    let source = std::fs::read(fixture.dir.join("source/big")).unwrap();
    let wanted = &source[IN_BIG as usize..IN_BIG as usize + 4096];
    let mut block = vec![0; 4096];
    let blocks = data.metadata().unwrap().len() / 4096;
    let at = (0..blocks).map(|block| block * 4096).find(|&at| {
        data.read_exact_at(&mut block, at).unwrap();
        block == wanted
    });
    let at = at.expect("it is cached");
    data.write_all_at(&[wanted[7] ^ 1], at + 7).unwrap();
    data.sync_all().unwrap();
}

/// What a reader has of `big`, past the page cache.
fn is_right(fixture: &Fixture, target: &str) -> bool {
    let path = fixture.target(target).join("big");
    forget(&std::fs::File::open(&path).unwrap());
    std::fs::read(path).unwrap() == std::fs::read(fixture.dir.join("source/big")).unwrap()
}

async fn cached(fixture: &Fixture, server: &Server, layout: MountLayout) {
    let version = fixture.version("v1", None).await;
    fixture.publish(server, "a", &version).await.unwrap();
    fixture.assert_same("a");
    wait_for(server, &[EROFSLoopNative]).await;
    if layout == EROFSFile {
        fixture.unpublish(server, "a").await.unwrap();
        fixture.publish(server, "a", &version).await.unwrap();
    }
    assert_eq!(layouts(server), [layout]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_flipped_bit_below_a_native_mount_is_repaired_in_place() {
    for layout in [EROFSFile, EROFSLoopNative] {
        let fixture = Fixture::new().await;
        let server = fixture.server().await;
        server.set_scrub_rate(0);
        cached(&fixture, &server, layout).await;
        flip(&fixture);
        assert!(!is_right(&fixture, "a"), "nobody but the scrub sees it");
        let fetched = server.report().traffic.source_bytes;
        server.set_scrub_rate(u64::MAX);
        wait_until("repair", || server.report().scrub.repaired_parts > 0).await;
        // Nor does anybody still have the wrong bytes in memory.
        fixture.assert_same("a");
        fixture.assert_same_anew("a");
        let report = server.report();
        assert_eq!((report.scrub.damaged_parts, report.scrub.repaired_parts), (1, 1));
        assert_eq!(report.traffic.source_bytes - fetched, 1 << 20, "one part was fetched");
        assert_eq!(layouts(&server), [layout], "and nothing was mounted anew");
        server.stop(true).await;
        assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_flipped_bit_is_found_before_a_live_switch_after_a_crash() {
    let fixture = Fixture::new().await;
    let version = fixture.version("v1", None).await;
    Predecessor::start_with(&fixture, EROFSFile).kill();
    // The machine starts anew.
    fixture.unmount_all();
    flip(&fixture);
    let server = fixture.server_again().await;
    server.set_scrub_rate(0);
    fixture.publish(&server, "a", &version).await.unwrap();
    // Not before somebody has asked for the part again.
    wait_until("check", || server.report().scrub.damaged_parts > 0).await;
    assert_ne!(layouts(&server), [EROFSFile]);
    fixture.assert_same_anew("a");
    wait_for(&server, &[EROFSLoopNative]).await;
    fixture.assert_same_anew("a");
    let report = server.report();
    assert_eq!((report.scrub.damaged_parts, report.scrub.repaired_parts), (1, 0));
    assert_eq!(report.traffic.source_bytes, 1 << 20, "one part was fetched");
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}
