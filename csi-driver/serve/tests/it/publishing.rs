//! Publishing and unpublishing.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use granary_keeper::Keeper;
use granary_serve::{Layout, LayoutChoice, ServeError, Server, ServerConfig};

use crate::fixture::{Fixture, WAYS, bytes, published};

/// Threads of FUSE sessions in this process; a session ends when no loop device has its file any more.
fn session_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    tasks.filter(|name| name.starts_with("fuser-") || name.starts_with("granary-fuse")).count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Threads end on their own, a moment after the kernel has let go.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long for {what}");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn every_byte_is_right_and_nothing_is_left() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        assert_eq!(server.layout(), if way == LayoutChoice::FUSE { Layout::FUSE } else { Layout::EROFSFile });
        let version = fixture.version("v1", None).await;
        assert!(!server.is_published(&fixture.target("a")));
        fixture.publish(&server, "a", &version).await.unwrap();
        assert!(server.is_published(&fixture.target("a")));
        fixture.assert_same("a");
        // Again from the page cache.
        fixture.assert_same("a");
        let line = fixture.mounts().into_iter().find(|line| line.contains("targets/a")).unwrap();
        assert!(line.contains("ro,nosuid,nodev"), "{line}");
        let report = server.report();
        assert_eq!(published(&server), [("v1".to_owned(), 1)]);
        assert!(report.traffic.served_bytes > 0 && report.datasets[0].cached_bytes > 0, "{report:?}");

        fixture.unpublish(&server, "a").await.unwrap();
        fixture.unpublish(&server, "a").await.unwrap();
        assert!(!server.is_published(&fixture.target("a")) && !fixture.target("a").exists());
        assert_eq!(fixture.found(), (0, 0));
        assert_eq!(fixture.kept(), 1, "for the next pod");
        assert_eq!(fs::read_dir(fixture.dir.join("state/volumes")).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn calls_at_once_make_one_mount() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        let version = fixture.version("v1", None).await;
        let calls = (0..8).map(|_| fixture.publish(&server, "a", &version));
        for result in futures::future::join_all(calls).await {
            result.unwrap();
        }
        // The private one and the target.
        assert_eq!(fixture.found(), fixture.expected(2, 1), "{:?}", fixture.mounts());

        let names: Vec<_> = (0..8).map(|n| format!("pod{n}")).collect();
        for result in futures::future::join_all(names.iter().map(|name| fixture.publish(&server, name, &version))).await
        {
            result.unwrap();
        }
        assert_eq!(fixture.found(), fixture.expected(10, 1));
        assert_eq!(published(&server), [("v1".to_owned(), 9)]);
        fixture.unpublish(&server, "a").await.unwrap();
        fixture.assert_same("pod7");
        for result in futures::future::join_all(names.iter().map(|name| fixture.unpublish(&server, name))).await {
            result.unwrap();
        }
        assert_eq!(fixture.found(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_hundred_cycles_leak_nothing() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        cycles_leak_nothing(&fixture, &server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_hundred_cycles_on_a_kernel_that_cannot_ask_again_leak_nothing() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        // Without one there are no journals.
        let socket = fixture.dir.join("keeper.sock");
        let keeper = Keeper::listen(&socket).unwrap();
        std::thread::spawn(move || keeper.run(None));
        let config = ServerConfig { keeper: Some(socket), ..fixture.config() };
        let server = Server::start_without_resend(config).await.unwrap();
        cycles_leak_nothing(&fixture, &server).await;
    }
}

async fn cycles_leak_nothing(fixture: &Fixture, server: &Server) {
    let version = fixture.version("v1", None).await;
    let cycle = async || {
        fixture.publish(server, "a", &version).await.unwrap();
        assert!(fs::read(fixture.target("a").join("a/one")).unwrap().len() == 1);
        fixture.unpublish(server, "a").await.unwrap();
    };
    cycle().await;
    wait_until("the first session to end", || session_threads() == 0);
    let before = descriptors();
    for _ in 0..100 {
        cycle().await;
    }
    assert_eq!(fixture.found(), (0, 0));
    wait_until("sessions to end", || session_threads() == 0);
    wait_until("descriptors to be closed", || descriptors() <= before);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn versions_of_one_blob_are_mounted_side_by_side() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        let first = fixture.version("v1", None).await;
        fixture.publish(&server, "first", &first).await.unwrap();
        fixture.assert_same("first");
        fixture.write("later", &bytes(99, 3 << 20));
        let second = fixture.version("v2", Some(&first)).await;
        assert_eq!(first.blob_id, second.blob_id);
        assert!(second.blob_bytes > first.blob_bytes);
        fixture.publish(&server, "second", &second).await.unwrap();
        fixture.assert_same("second");
        assert_eq!(fs::read(fixture.target("second").join("later")).unwrap(), bytes(99, 3 << 20));
        assert!(!fixture.target("first").join("later").exists());
        // A target keeps the version that it has.
        fixture.publish(&server, "first", &second).await.unwrap();
        assert!(!fixture.target("first").join("later").exists());
        server.stop(true).await;
        assert_eq!(fixture.found(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_changed_object_fails_alone() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        let version = fixture.version("v1", None).await;
        fixture.publish(&server, "a", &version).await.unwrap();
        fixture.write("b/c/part", &bytes(77, 1 << 20));
        let error = fs::read(fixture.target("a").join("b/c/part")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
        for path in ["a/more", "b/c/two parts", "big"] {
            let found = fs::read(fixture.target("a").join(path)).unwrap();
            assert!(found == fs::read(fixture.dir.join("source").join(path)).unwrap(), "{path}");
        }
        let errors = &server.report().datasets[0].read_errors;
        assert!(errors.iter().any(|error| error.reason == "ObjectChanged" && error.count > 0), "{errors:?}");
        server.stop(true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn an_empty_version_is_an_empty_directory() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        fs::remove_dir_all(fixture.dir.join("source")).unwrap();
        fs::create_dir(fixture.dir.join("source")).unwrap();
        let server = fixture.server().await;
        let version = fixture.version("v1", None).await;
        fixture.publish(&server, "a", &version).await.unwrap();
        assert_eq!(fs::read_dir(fixture.target("a")).unwrap().count(), 0);
        server.stop(true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn failures_leave_nothing() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        let version = fixture.version("v1", None).await;

        let unknown = granary_serve::VersionManifest { pool: "other".into(), ..version.clone() };
        let error = fixture.publish(&server, "a", &unknown).await.unwrap_err();
        assert!(matches!(&error, ServeError::UnknownPool(name) if name == "other"), "{error}");

        fs::write(fixture.artifact(&version.image), b"other bytes").unwrap();
        let error = fixture.publish(&server, "a", &version).await.unwrap_err();
        assert!(matches!(error, ServeError::WrongDigest { .. }), "{error}");
        fs::remove_file(fixture.artifact(&version.image)).unwrap();
        let error = fixture.publish(&server, "a", &version).await.unwrap_err();
        assert!(matches!(error, ServeError::Artifact { .. }), "{error}");

        let longer = granary_serve::VersionManifest {
            blob_bytes: version.blob_bytes + 4096,
            ..fixture.version("v1", None).await
        };
        let error = fixture.publish(&server, "a", &longer).await.unwrap_err();
        assert!(matches!(error, ServeError::Invalid { .. }), "{error}");

        assert!(!fixture.target("a").exists());
        assert_eq!(fixture.found(), (0, 0));
        fixture.publish(&server, "a", &version).await.unwrap();
        fixture.assert_same("a");
        server.stop(true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_foreign_mount_is_left_alone() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        let version = fixture.version("v1", None).await;
        let target = fixture.target("a");
        fs::create_dir(&target).unwrap();
        rustix::mount::mount("none", &target, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        for error in [
            fixture.publish(&server, "a", &version).await.unwrap_err(),
            fixture.unpublish(&server, "a").await.unwrap_err(),
        ] {
            assert!(matches!(&error, ServeError::Occupied { found, .. } if found.contains("tmpfs")), "{error}");
        }
        rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
        fixture.publish(&server, "a", &version).await.unwrap();
        fixture.unpublish(&server, "a").await.unwrap();
        assert!(target.exists(), "a directory that the server did not make stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn calls_out_of_order_leak_nothing() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        let version = fixture.version("v1", None).await;
        fixture.unpublish(&server, "a").await.unwrap();
        for _ in 0..20 {
            let (published, unpublished) =
                tokio::join!(fixture.publish(&server, "a", &version), fixture.unpublish(&server, "a"));
            published.unwrap();
            unpublished.unwrap();
            let is_published = server.is_published(&fixture.target("a"));
            let mounts = if is_published { fixture.expected(2, 1) } else { (0, 0) };
            assert_eq!(fixture.found(), mounts, "whichever was last");
        }
        fixture.publish(&server, "a", &version).await.unwrap();
        fixture.assert_same("a");
        fixture.unpublish(&server, "a").await.unwrap();
        fixture.unpublish(&server, "a").await.unwrap();
        assert_eq!(fixture.found(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn images_stay_for_the_next_pod_within_bounds() {
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        let first = fixture.version("v0", None).await;
        fixture.publish(&server, "a", &first).await.unwrap();
        fixture.unpublish(&server, "a").await.unwrap();
        // The store has it no more, and is not asked.
        for digest in [&first.image, &first.extents] {
            fs::rename(fixture.artifact(digest), fixture.dir.join(digest.hex())).unwrap();
        }
        fixture.publish(&server, "a", &first).await.unwrap();
        fixture.assert_same("a");
        fixture.unpublish(&server, "a").await.unwrap();
        for digest in [&first.image, &first.extents] {
            fs::rename(fixture.dir.join(digest.hex()), fixture.artifact(digest)).unwrap();
        }
        for n in 1..10 {
            let version = fixture.version(&format!("v{n}"), None).await;
            fixture.publish(&server, "b", &version).await.unwrap();
            fixture.unpublish(&server, "b").await.unwrap();
            assert_eq!(fixture.kept(), (n + 1).min(8));
        }
        // The oldest had to go, and is fetched again; the youngest had not.
        fs::remove_file(fixture.artifact(&first.extents)).unwrap();
        fixture.publish(&server, "a", &first).await.unwrap_err();
        let last = fixture.version("v9", None).await;
        fs::remove_file(fixture.artifact(&last.extents)).unwrap();
        fixture.publish(&server, "a", &last).await.unwrap();
        fixture.assert_same("a");
        server.stop(true).await;
        assert_eq!(fixture.found(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn every_user_may_read_and_nobody_may_write() {
    const NOBODY: u32 = 65_534;
    for way in WAYS {
        let fixture = Fixture::with(way).await;
        fs::set_permissions(&fixture.dir, fs::Permissions::from_mode(0o755)).unwrap();
        let server = fixture.server().await;
        let version = fixture.version("v1", None).await;
        fixture.publish(&server, "a", &version).await.unwrap();
        let file = fixture.target("a").join("a/more");
        // The target itself is as private as a kubelet's, and a container has it as a mount of its own.
        fs::set_permissions(fixture.dir.join("targets"), fs::Permissions::from_mode(0o755)).unwrap();
        let output = Command::new("cat").arg(&file).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(output.stdout == fs::read(fixture.dir.join("source/a/more")).unwrap(), "{output:?}");
        let error = File::options().write(true).open(&file).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
        server.stop(true).await;
    }
}
