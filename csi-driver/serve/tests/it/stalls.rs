//! A source that says nothing, below real mounts: whoever does not read from it is not held up.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use granary_faults::{BUCKET, Fault, Proxy, Store};
use granary_fetch::{S3Options, SourceConfig};
use granary_serve::VersionManifest;

use crate::fixture::{Fixture, bytes};

/// More than anything takes that waits for no source, and less than a read waits for one.
const BOUND: Duration = Duration::from_secs(30);
const BIG: usize = 3 << 20;

/// A process that reads a file, as a pod's would.
struct Reader(Child);

impl Reader {
    fn of(file: PathBuf) -> Self {
        Self(Command::new("cat").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a call that blocks its thread, for no longer than the bound.
async fn bounded<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let called = tokio::time::timeout(BOUND, tokio::task::spawn_blocking(call)).await;
    called.unwrap_or_else(|_| panic!("{what} waits for the source")).unwrap()
}

/// Two files at a store behind a proxy.
async fn source(store: &Store, proxy: &Proxy) -> SourceConfig {
    rustls::crypto::ring::default_provider().install_default().ok();
    store.put("stuck/a", bytes(1, BIG));
    store.put("stuck/b", bytes(2, BIG));
    SourceConfig {
        uri: format!("s3://{BUCKET}/stuck/"),
        s3: S3Options { endpoint: Some(format!("http://{}", proxy.address())), ..S3Options::default() },
        ..SourceConfig::default()
    }
}

/// The same as another dataset, so that its blob is another.
fn other_dataset(mut version: VersionManifest) -> VersionManifest {
    version.dataset.dataset_uid = "other".into();
    version.dataset.name = "other".into();
    version
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_source_that_stalls_holds_up_nobody_but_its_readers() {
    let fixture = Fixture::new().await;
    let (store, sound) = (Store::start().await.unwrap(), fixture.version("sound", None).await);
    let proxy = Proxy::start(store.address()).await.unwrap();
    let config = source(&store, &proxy).await;
    let first = other_dataset(fixture.version_of(config.clone(), "first", None).await);
    store.put("stuck/c", bytes(3, BIG));
    let second = other_dataset(fixture.version_of(config, "second", Some(&first)).await);
    assert_eq!(first.blob_id, second.blob_id);

    let server = fixture.server().await;
    fixture.publish(&server, "first", &first).await.unwrap();
    fixture.publish(&server, "second", &second).await.unwrap();
    proxy.fail_always(Fault::Stall);
    let mut killed = Reader::of(fixture.target("first").join("a"));
    let _waiting = Reader::of(fixture.target("second").join("b"));
    proxy.wait_for_reads(2).await;

    // What the kubelet, or somebody with a shell, may ask about the mount.
    let target = fixture.target("first");
    bounded("statfs", {
        let target = target.clone();
        move || rustix::fs::statfs(&target).unwrap()
    })
    .await;
    let names = bounded("a listing", move || fs::read_dir(&target).unwrap().count()).await;
    assert_eq!(names, 2);
    bounded("a report", {
        let server = server.clone();
        move || assert_eq!(server.report().datasets.len(), 1)
    })
    .await;

    // Another dataset, and a new pod of this one.
    tokio::time::timeout(BOUND, fixture.publish(&server, "sound", &sound)).await.expect("publishing waits").unwrap();
    tokio::time::timeout(BOUND, fixture.publish(&server, "third", &second)).await.expect("publishing waits").unwrap();
    let at = fixture.target("sound");
    let expected = fixture.dir.join("source/big");
    bounded("another dataset", move || {
        assert!(fs::read(at.join("big")).unwrap() == fs::read(expected).unwrap());
    })
    .await;

    // The pod ends, and its volume is taken away, though another version of the blob is being read.
    tokio::task::spawn_blocking(move || killed.kill()).await.unwrap();
    for target in ["first", "third", "sound", "second"] {
        let unpublished = tokio::time::timeout(BOUND, fixture.unpublish(&server, target)).await;
        unpublished.unwrap_or_else(|_| panic!("taking away {target} waits for the source")).unwrap();
        assert!(!server.is_published(&fixture.target(target)));
    }
    server.stop(true).await;
    assert_eq!(fixture.image_loops(), 0);
}
