//! A server is killed and another one takes its place. The killed one is this test binary, run again.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use granary_serve::{LayoutChoice, MountLayout, Server};
use rustix::process::{Pid, Signal};

use crate::fixture::{Fixture, WAYS, published, wait_for};

const DIR: &str = "GRANARY_TEST_SERVE_DIR";

const LAYOUT: &str = "GRANARY_TEST_SERVE_LAYOUT";

/// A process that serves; killed when dropped.
pub struct Predecessor(Child);

impl Predecessor {
    /// Publishes version `v1` at two targets and waits to be killed.
    pub fn start(fixture: &Fixture) -> Self {
        let is_filesystem = fixture.way == LayoutChoice::FUSE;
        Self::start_with(fixture, if is_filesystem { MountLayout::FUSE } else { MountLayout::EROFSLoopFUSE })
    }

    /// As [`Self::start`], with a layout that the version has reached; only those that need the server have absent parts.
    pub fn start_with(fixture: &Fixture, layout: MountLayout) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "adoption::predecessor", "--ignored", "--nocapture"])
            .env(DIR, &fixture.dir)
            .env(LAYOUT, layout.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.map_while(Result::ok).any(|line| line.contains("serving"));
        let predecessor = Self(child);
        assert!(is_ready, "the predecessor ended early");
        predecessor
    }

    /// Sends a signal, such as one that stops it for a while.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn predecessor() {
    // Alone it has nothing to do.
    let Some(dir) = std::env::var_os(DIR) else { return };
    let layout = std::env::var(LAYOUT).unwrap();
    let is_filesystem = layout == MountLayout::FUSE.as_str();
    let way = if is_filesystem { LayoutChoice::FUSE } else { LayoutChoice::Auto };
    let fixture = Fixture::existing(dir.into(), way);
    let server = fixture.server().await;
    let version = fixture.version("v1", None).await;
    for target in ["a", "b"] {
        fixture.publish(&server, target, &version).await.unwrap();
    }
    // Some parts are cached, others are not.
    fs::read(fixture.target("a").join("b/c/part")).unwrap();
    if is_filesystem {
        wait_for(&server, &[MountLayout::FUSE]).await;
    } else if layout != MountLayout::EROFSLoopFUSE.as_str() {
        fixture.assert_same("a");
        wait_for(&server, &[MountLayout::EROFSLoopNative]).await;
    }
    if layout == MountLayout::EROFSFile.as_str() {
        for target in ["a", "b"] {
            fixture.unpublish(&server, target).await.unwrap();
        }
        for target in ["a", "b"] {
            fixture.publish(&server, target, &version).await.unwrap();
        }
        wait_for(&server, &[MountLayout::EROFSFile]).await;
    }
    println!("serving");
    // Ends with the parent, if it is not killed by it.
    let _ = std::io::stdin().lines().next();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn mounts_of_a_killed_server_are_healed() {
    let fixture = Fixture::new().await;
    let predecessor = Predecessor::start(&fixture);
    let mounts = fixture.mounts();
    assert_eq!(mounts.len(), 3);
    predecessor.kill();
    assert!(fs::read(fixture.target("b").join("big")).is_err(), "nobody serves it");

    let server = fixture.server().await;
    assert_eq!(fixture.mounts(), mounts, "the same mounts");
    assert!(server.is_published(&fixture.target("a")) && server.is_published(&fixture.target("b")));
    assert_eq!(published(&server), [("v1".to_owned(), 2)]);
    fixture.assert_same("a");
    fixture.assert_same("b");
    let version = fixture.version("v1", None).await;
    fixture.publish(&server, "a", &version).await.unwrap();
    fixture.publish(&server, "c", &version).await.unwrap();
    fixture.assert_same("c");
    for target in ["a", "b", "c"] {
        fixture.unpublish(&server, target).await.unwrap();
    }
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn what_nobody_uses_is_released() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        released(&fixture).await;
    }
}

async fn released(fixture: &Fixture) {
    Predecessor::start(fixture).kill();
    for target in ["a", "b"] {
        rustix::mount::unmount(fixture.target(target), rustix::mount::UnmountFlags::empty()).unwrap();
    }
    assert_eq!(fixture.found(), fixture.expected(1, 1));
    // A directory without a manifest, as a crash in the middle of a fetch leaves it.
    let half = fixture.dir.join("state/versions/half");
    fs::create_dir_all(half.join("mnt")).unwrap();
    fs::write(half.join("granary.new"), "half an image").unwrap();
    let server = fixture.server().await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
    assert!(!half.exists());
    assert_eq!(fixture.kept(), 1, "for the next pod");
    assert!(!server.is_published(&fixture.target("a")));
    fixture.unpublish(&server, "a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_lost_manifest_is_replaced_by_the_next_publish() {
    let fixture = Fixture::new().await;
    Predecessor::start(&fixture).kill();
    for entry in fs::read_dir(fixture.dir.join("state/versions")).unwrap() {
        fs::remove_file(entry.unwrap().path().join("manifest.json")).unwrap();
    }
    let server: std::sync::Arc<Server> = fixture.server().await;
    assert!(server.is_published(&fixture.target("a")), "it is mounted, though dead");
    let version = fixture.version("v1", None).await;
    fixture.publish(&server, "a", &version).await.unwrap();
    fixture.assert_same("a");
    fixture.assert_same("b");
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_cache_that_comes_late_is_served_then() {
    let fixture = Fixture::new().await;
    Predecessor::start(&fixture).kill();
    // What is remembered of the cache cannot be opened.
    let config = fixture.config();
    let pool = config.pools["local"].clone();
    fs::rename(&pool.dir, fixture.dir.join("elsewhere")).unwrap();
    fs::write(&pool.dir, "no directory").unwrap();
    let server = Server::start(granary_serve::ServerConfig { pools: Default::default(), ..config }).await.unwrap();
    assert!(server.is_published(&fixture.target("a")));
    assert!(fs::read(fixture.target("a").join("big")).is_err());

    fs::remove_file(&pool.dir).unwrap();
    fs::rename(fixture.dir.join("elsewhere"), &pool.dir).unwrap();
    server.set_pool("local", pool).unwrap();
    // Nobody calls for the mounts again: they are served because their cache is there.
    let start = Instant::now();
    while server.report().datasets.iter().all(|dataset| dataset.versions.is_empty()) {
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long");
        tokio::task::yield_now().await;
    }
    fixture.assert_same("b");
    server.stop(true).await;
}
