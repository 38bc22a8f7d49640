//! Versions as FUSE filesystems: what is particular to them. What holds for every way of mounting is tested over both.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use granary_serve::{Layout, LayoutChoice, MountLayout, Server, survey_mounts};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::adoption::Predecessor;
use crate::fixture::{Fixture, SIZES, bytes, forget, layouts, published, wait_for, wait_until};
use crate::switching::{LARGE, Readers};

/// What `stat` and `readdir` say of everything below a directory, in the order in which it is listed.
fn listed(dir: &Path, found: &mut Vec<(OsString, [u64; 11])>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        found.push((entry.file_name(), shown(&path)));
        if entry.file_type().unwrap().is_dir() {
            listed(&path, found);
        }
    }
}

fn shown(path: &Path) -> [u64; 11] {
    let m = path.symlink_metadata().unwrap();
    let times = [m.mtime() as u64, m.atime() as u64, m.ctime() as u64];
    let [mtime, atime, ctime] = times;
    let (mode, links, uid, gid) = (m.mode().into(), m.nlink(), m.uid().into(), m.gid().into());
    [m.ino(), mode, links, uid, gid, m.size(), m.blocks(), m.blksize(), mtime, atime, ctime]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn names_and_attributes_are_those_that_the_kernel_shows_of_the_image() {
    let mut fixture = Fixture::new().await;
    for n in 0..1500 {
        fixture.write(&format!("many/a file with the number {n:05}"), b"x");
    }
    let version = fixture.version("v1", None).await;
    let mut seen = Vec::new();
    for way in [LayoutChoice::EROFSLoop, LayoutChoice::FUSE] {
        fixture.way = way;
        let server = fixture.server_again().await;
        fixture.publish(&server, "a", &version).await.unwrap();
        let target = fixture.target("a");
        let (mut found, space) = (vec![("/".into(), shown(&target))], rustix::fs::statvfs(&target).unwrap());
        listed(&target, &mut found);
        let space = [space.f_blocks, space.f_bsize, space.f_frsize, space.f_bavail, space.f_bfree, space.f_namemax];
        seen.push((found, space));
        server.stop(true).await;
    }
    assert!(seen[0].0.len() > 1500);
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_layout_can_be_chosen() {
    for (way, can, mounted) in [
        (LayoutChoice::Auto, Layout::EROFSFile, MountLayout::EROFSFile),
        (LayoutChoice::EROFSFile, Layout::EROFSFile, MountLayout::EROFSFile),
        (LayoutChoice::EROFSLoop, Layout::EROFSLoop, MountLayout::EROFSLoopNative),
        (LayoutChoice::FUSE, Layout::FUSE, MountLayout::FUSE),
    ] {
        let fixture = Fixture::with(way).await;
        let server = fixture.server().await;
        assert_eq!(server.layout(), can, "{way:?}");
        // Complete, for it is empty.
        fs::remove_dir_all(fixture.dir.join("source")).unwrap();
        fs::create_dir(fixture.dir.join("source")).unwrap();
        let version = fixture.version("v1", None).await;
        fixture.publish(&server, "a", &version).await.unwrap();
        wait_for(&server, &[mounted]).await;
        server.stop(true).await;
        assert_eq!(fixture.found(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn it_is_seen_from_outside() {
    let fixture = Fixture::with(LayoutChoice::FUSE).await;
    let server = fixture.server().await;
    let version = fixture.version("v1", None).await;
    for target in ["a", "b"] {
        fixture.publish(&server, target, &version).await.unwrap();
    }
    let ours = |target: &str| {
        let at = fixture.target(target);
        let mut found = survey_mounts().unwrap().into_iter().filter(|mount| mount.mount_point == at);
        (found.next().unwrap(), found.count())
    };
    let (mount, others) = ours("a");
    assert_eq!((mount.layout, others, mount.version.as_deref()), (MountLayout::FUSE, 0, Some("v1")));
    assert_eq!(mount.dataset, Some(("lab".to_owned(), "data".to_owned())));
    assert!(mount.cached_percent.is_some_and(|percent| percent < 100), "{mount:?}");
    fixture.assert_same("b");
    let device = |target: &str| fixture.target(target).metadata().unwrap().dev();
    assert_eq!(device("a"), device("b"), "one filesystem, and one page cache");
    wait_until("all of it to be cached", || ours("a").0.cached_percent == Some(100)).await;
    assert_eq!(layouts(&server), [MountLayout::FUSE], "it is not moved");
    server.stop(true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn readers_of_every_kind_notice_no_eviction() {
    let fixture = Fixture::with(LayoutChoice::FUSE).await;
    fixture.write(LARGE.0, &bytes(LARGE.1, LARGE.2));
    let server = fixture.server().await;
    let version = fixture.version("v1", None).await;
    fixture.publish(&server, "a", &version).await.unwrap();
    let path = fixture.target("a").join(LARGE.0);
    let readers = Readers::start(&path);
    readers.go_on().await;
    let cached = |server: &Server| server.report().datasets.iter().map(|d| d.cached_bytes).sum::<u64>();
    for _ in 0..3 {
        fixture.limit(&server, 6);
        wait_until("eviction", || cached(&server) <= 6 << 20).await;
        readers.go_on().await;
        fixture.limit(&server, 64);
        readers.go_on().await;
    }
    readers.finish();
    // Past the page cache, up to the end and beyond.
    let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(fixture.target("a").join("z")).unwrap();
    let expected = bytes(7, SIZES[7].1);
    let mut buf = vec![0; 16 << 10];
    let got = direct.read_at(&mut buf, 0).unwrap();
    assert!(buf[..got] == expected[..got] && got == expected.len(), "{got}");
    assert_eq!(direct.read_at(&mut buf, 16 << 10).unwrap(), 0);
    server.stop(true).await;
}

/// All that a job does with files that it has used before.
fn use_all(target: &Path) {
    let mut found = Vec::new();
    listed(target, &mut found);
    for (path, size) in SIZES {
        assert_eq!(fs::read(target.join(path)).unwrap().len(), size, "{path}");
    }
    let error = fs::metadata(target.join("a/not here")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

/// Nothing changes, so the kernel need not ask twice: no name, no attribute, no byte, and no leave to open a file.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn what_the_kernel_has_asked_for_once_it_has_though_nobody_answers() {
    let fixture = Fixture::with(LayoutChoice::FUSE).await;
    let predecessor = Predecessor::start(&fixture);
    let target = fixture.target("a");
    use_all(&target);
    predecessor.signal(Signal::STOP);
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        use_all(&target);
        done.send(()).unwrap();
    });
    let result = is_done.recv_timeout(Duration::from_secs(30));
    predecessor.signal(Signal::CONT);
    result.expect("the kernel asked again");
    predecessor.kill();
    fixture.server().await.stop(true).await;
    assert_eq!(fixture.found(), (0, 0));
}

/// Nothing can take the place of a server whose connection is gone with it. Who has the mount gets errors; who comes after the
/// next start, as a container that starts again does, gets the data.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_mount_of_a_killed_server_is_renewed_for_who_comes_next() {
    for next in [LayoutChoice::FUSE, LayoutChoice::Auto] {
        let mut fixture = Fixture::with(LayoutChoice::FUSE).await;
        let predecessor = Predecessor::start(&fixture);
        let file = File::open(fixture.target("a").join("big")).unwrap();
        predecessor.kill();
        // What the kernel has not yet, nobody gives it.
        let error = fs::read(fixture.target("b").join("big")).unwrap_err();
        assert!([Errno::NOTCONN, Errno::IO].map(|errno| Some(errno.raw_os_error())).contains(&error.raw_os_error()));

        fixture.way = next;
        let server = fixture.server().await;
        assert_eq!(published(&server), [("v1".to_owned(), 2)]);
        fixture.assert_same("a");
        fixture.assert_same("b");
        forget(&file);
        assert!(file.read_exact_at(&mut [0; 100], 1 << 20).is_err(), "an error and never other bytes");
        let version = fixture.version("v1", None).await;
        let before = fixture.mounts();
        fixture.publish(&server, "a", &version).await.unwrap();
        assert_eq!(fixture.mounts(), before, "once is enough");
        fixture.publish(&server, "c", &version).await.unwrap();
        fixture.assert_same("c");
        for target in ["a", "b", "c"] {
            fixture.unpublish(&server, target).await.unwrap();
        }
        assert_eq!(fixture.found(), (0, 0), "{:?}", fixture.mounts());
    }
}

/// What could not be served at the start is renewed by the next publish of each target.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_dead_mount_whose_manifest_is_lost_is_renewed_by_the_next_publish() {
    let fixture = Fixture::with(LayoutChoice::FUSE).await;
    Predecessor::start(&fixture).kill();
    for entry in fs::read_dir(fixture.dir.join("state/versions")).unwrap() {
        fs::remove_file(entry.unwrap().path().join("manifest.json")).unwrap();
    }
    let server = fixture.server().await;
    assert!(server.is_published(&fixture.target("a")), "it is mounted, though dead");
    let version = fixture.version("v1", None).await;
    for target in ["a", "b"] {
        fixture.publish(&server, target, &version).await.unwrap();
        fixture.assert_same(target);
    }
    server.stop(true).await;
    assert_eq!(fixture.found(), (0, 0));
}
