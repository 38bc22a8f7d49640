//! Where a mount's bytes come from, and how that changes below its readers.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use granary_serve::MountLayout::{EROFSFile, EROFSLoopFUSE, EROFSLoopNative};
use granary_serve::Server;

use crate::fixture::{Fixture, bytes, forget, layouts, wait_for, wait_until};

const MIB: usize = 1 << 20;
/// A file beside those that every fixture has.
pub const LARGE: (&str, u64, usize) = ("large", 1234, 20 * MIB);

async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.write(LARGE.0, &bytes(LARGE.1, LARGE.2));
    fixture
}

/// Reads all of a target past its page cache, and compares.
fn assert_all(fixture: &Fixture, target: &str) {
    fixture.assert_same_anew(target);
    let file = File::open(fixture.target(target).join(LARGE.0)).unwrap();
    forget(&file);
    assert!(std::fs::read(fixture.target(target).join(LARGE.0)).unwrap() == bytes(LARGE.1, LARGE.2));
}

/// Publishes `v1`, reads all of it, and waits for the native file.
async fn native(fixture: &Fixture, server: &Server) -> granary_serve::VersionManifest {
    let version = fixture.version("v1", None).await;
    fixture.publish(server, "a", &version).await.unwrap();
    assert_eq!(layouts(server), [EROFSLoopFUSE]);
    assert_all(fixture, "a");
    wait_for(server, &[EROFSLoopNative]).await;
    version
}

fn served(server: &Server) -> u64 {
    server.report().traffic.served_bytes
}

fn cached(server: &Server) -> u64 {
    server.report().datasets.iter().map(|dataset| dataset.cached_bytes).sum()
}

/// Pages of a file that the system has in memory.
fn resident(path: &Path) -> u64 {
    const CACHESTAT: libc::c_long = 451;
    let file = File::open(path).unwrap();
    let (range, mut found) = ([0u64; 2], [0u64; 5]);
    // SAFETY: the kernel reads a `struct cachestat_range` and writes a `struct cachestat`, which are arrays of numbers.
    let result = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), found.as_mut_ptr(), 0) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    found[0]
}

/// Threads that read a file in their own ways and compare, until they are told to stop.
pub struct Readers {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub fn start(path: &Path) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let expected = Arc::new(bytes(LARGE.1, LARGE.2));
        let ways: [fn(&File, &[u8], u64); 4] = [in_order, here_and_there, in_small_pieces, mapped];
        let threads = ways.into_iter().enumerate().map(|(nth, way)| {
            let (stop, rounds) = (stop.clone(), rounds.clone());
            let (path, expected): (PathBuf, _) = (path.to_owned(), expected.clone());
            std::thread::spawn(move || {
                let file = File::open(path).unwrap();
                for round in 0.. {
                    if stop.load(SeqCst) {
                        return;
                    }
                    forget(&file);
                    way(&file, &expected, round * 4 + nth as u64);
                    rounds.fetch_add(1, SeqCst);
                }
            })
        });
        Self { threads: threads.collect(), stop, rounds }
    }

    /// Waits until the readers have had some rounds more.
    pub async fn go_on(&self) {
        let until = self.rounds.load(SeqCst) + 20;
        let reading = || self.rounds.load(SeqCst) >= until || self.threads.iter().any(JoinHandle::is_finished);
        wait_until("readers", reading).await;
    }

    /// Fails if one of them has seen an error or a wrong byte.
    pub fn finish(self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn in_order(file: &File, expected: &[u8], _: u64) {
    let mut buf = vec![0; 256 << 10];
    for (nth, wanted) in expected.chunks(buf.len()).enumerate() {
        file.read_exact_at(&mut buf[..wanted.len()], (nth * (256 << 10)) as u64).unwrap();
        assert!(buf[..wanted.len()] == *wanted, "chunk {nth}");
    }
}

fn at_random(file: &File, expected: &[u8], seed: u64, len: usize) {
    let places = bytes(seed + 1, 8 * 64);
    for place in places.chunks(8) {
        let at = u64::from_le_bytes(place.try_into().unwrap()) as usize % (expected.len() - len);
        let mut buf = vec![0; len];
        file.read_exact_at(&mut buf, at as u64).unwrap();
        assert!(buf == expected[at..at + len], "{len} bytes at {at}");
    }
}

fn here_and_there(file: &File, expected: &[u8], seed: u64) {
    at_random(file, expected, seed, 128 << 10);
}

fn in_small_pieces(file: &File, expected: &[u8], seed: u64) {
    at_random(file, expected, seed, 4096);
}

fn mapped(file: &File, expected: &[u8], _: u64) {
    use rustix::mm::{MapFlags, ProtFlags};
    // SAFETY: a fresh mapping, which nothing else uses and which is unmapped below.
    let map = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), expected.len(), ProtFlags::READ, MapFlags::SHARED, file, 0).unwrap()
    };
    // SAFETY: so long is the mapping, and the file does not change.
    let found = unsafe { std::slice::from_raw_parts(map.cast::<u8>(), expected.len()) };
    assert!(found == expected, "mapped bytes");
    // SAFETY: the slice is used no more.
    unsafe { rustix::mm::munmap(map, expected.len()).unwrap() };
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_complete_version_moves_to_the_native_file_below_its_readers() {
    let fixture = fixture().await;
    let server = fixture.server().await;
    let version = fixture.version("v1", None).await;
    fixture.publish(&server, "a", &version).await.unwrap();
    let readers = Readers::start(&fixture.target("a").join(LARGE.0));
    readers.go_on().await;
    assert_eq!(layouts(&server), [EROFSLoopFUSE], "other files are absent");
    fixture.assert_same("a");
    wait_for(&server, &[EROFSLoopNative]).await;
    let before = served(&server);
    readers.go_on().await;
    assert_all(&fixture, "a");
    assert_eq!(served(&server), before, "nobody asks the daemon");
    readers.finish();
    assert!(resident(&fixture.dir.join("cache/blobs/blob-v1/data")) < 16, "each byte is in memory once");
    fixture.unpublish(&server, "a").await.unwrap();
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
    // Nothing is held any more.
    fixture.limit(&server, 4);
    wait_until("eviction", || cached(&server) <= 4 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_native_version_is_given_back_before_its_parts_are_evicted() {
    let fixture = fixture().await;
    let server = fixture.server().await;
    native(&fixture, &server).await;
    let readers = Readers::start(&fixture.target("a").join(LARGE.0));
    readers.go_on().await;
    for _ in 0..3 {
        fixture.limit(&server, 6);
        wait_until("eviction", || cached(&server) <= 6 << 20).await;
        assert_eq!(layouts(&server), [EROFSLoopFUSE]);
        let before = served(&server);
        readers.go_on().await;
        assert!(served(&server) > before);
        fixture.limit(&server, 64);
        assert_all(&fixture, "a");
        wait_for(&server, &[EROFSLoopNative]).await;
        readers.go_on().await;
    }
    readers.finish();
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn of_native_versions_the_one_that_nobody_reads_is_given_back() {
    let fixture = fixture().await;
    let server = fixture.server().await;
    native(&fixture, &server).await;
    let other = fixture.version("v2", None).await;
    fixture.publish(&server, "b", &other).await.unwrap();
    assert_all(&fixture, "b");
    wait_for(&server, &[EROFSLoopNative, EROFSLoopNative]).await;
    // The other was moved later, and was not read since.
    assert_all(&fixture, "a");
    fixture.limit(&server, 40);
    wait_until("eviction", || cached(&server) <= 40 << 20).await;
    assert_eq!(layouts(&server), [EROFSLoopNative, EROFSLoopFUSE]);
    assert_all(&fixture, "a");
    assert_all(&fixture, "b");
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_version_that_is_complete_when_it_is_mounted_is_pinned_and_needs_no_device() {
    let fixture = fixture().await;
    let server = fixture.server().await;
    let version = native(&fixture, &server).await;
    fixture.unpublish(&server, "a").await.unwrap();
    fixture.publish(&server, "b", &version).await.unwrap();
    assert_eq!((layouts(&server), fixture.image_loops()), (vec![EROFSFile], 0));
    let line = fixture.mounts().into_iter().find(|line| line.contains("targets/b")).unwrap();
    assert!(line.contains("ro,nosuid,nodev") && line.contains("directio"), "{line}");
    let before = (served(&server), cached(&server));
    let readers = Readers::start(&fixture.target("b").join(LARGE.0));
    fixture.publish(&server, "c", &version).await.unwrap();
    fixture.limit(&server, 6);
    readers.go_on().await;
    assert_all(&fixture, "b");
    assert_all(&fixture, "c");
    // Another version would need the room, and is read all the same.
    fixture.write("other", &bytes(7, 3 * MIB));
    let other = fixture.version("v2", None).await;
    fixture.publish(&server, "d", &other).await.unwrap();
    assert_all(&fixture, "d");
    assert_all(&fixture, "b");
    readers.finish();
    assert_eq!(layouts(&server), [EROFSFile, EROFSLoopFUSE]);
    assert!(cached(&server) >= before.1, "nothing of it was evicted");
    assert!(resident(&fixture.dir.join("cache/blobs/blob-v1/data")) < 16, "each byte is in memory once");
    for target in ["b", "c", "d"] {
        fixture.unpublish(&server, target).await.unwrap();
    }
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
    wait_until("eviction", || cached(&server) <= 6 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn no_more_than_half_of_a_cache_is_pinned() {
    let fixture = fixture().await;
    let server = fixture.server().await;
    let version = native(&fixture, &server).await;
    fixture.limit(&server, 48);
    fixture.unpublish(&server, "a").await.unwrap();
    fixture.publish(&server, "a", &version).await.unwrap();
    assert_eq!(fixture.image_loops(), 1, "28 of 48 MiB may not be pinned");
    wait_for(&server, &[EROFSLoopNative]).await;
    assert_all(&fixture, "a");
    server.stop(true).await;
}

/// A process may keep a file open when its pod's volume is unmounted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn who_has_a_file_open_never_sees_a_hole() {
    let fixture = fixture().await;
    let server = fixture.server().await;
    let version = native(&fixture, &server).await;
    let on_loop = File::open(fixture.target("a").join(LARGE.0)).unwrap();
    fixture.unpublish(&server, "a").await.unwrap();
    fixture.publish(&server, "b", &version).await.unwrap();
    assert_eq!(layouts(&server), [EROFSFile]);
    let on_files = File::open(fixture.target("b").join(LARGE.0)).unwrap();
    fixture.unpublish(&server, "b").await.unwrap();
    assert_eq!(fixture.mounts().len(), 0);

    fixture.limit(&server, 6);
    fixture.write("other", &bytes(7, 8 * MIB));
    let other = fixture.version("v2", None).await;
    fixture.publish(&server, "c", &other).await.unwrap();
    assert_all(&fixture, "c");
    let expected = bytes(LARGE.1, LARGE.2);
    forget(&on_files);
    in_order(&on_files, &expected, 0);
    // What was on a loop device gets right bytes or an error.
    forget(&on_loop);
    let mut buf = vec![0; MIB];
    for at in (0..LARGE.2).step_by(MIB) {
        if on_loop.read_exact_at(&mut buf, at as u64).is_ok() {
            assert!(buf == expected[at..at + MIB], "at {at}");
        }
    }
    drop((on_files, on_loop));
    wait_until("eviction", || cached(&server) <= 6 << 20).await;
    server.stop(true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn what_no_version_has_any_more_is_not_waited_for() {
    let fixture = fixture().await;
    let server = fixture.server().await;
    let first = fixture.version("v1", None).await;
    fixture.publish(&server, "a", &first).await.unwrap();
    std::fs::remove_file(fixture.dir.join("source").join(LARGE.0)).unwrap();
    let second = fixture.version("v2", Some(&first)).await;
    fixture.publish(&server, "b", &second).await.unwrap();
    fixture.assert_same("b");
    wait_for(&server, &[EROFSLoopFUSE, EROFSLoopNative]).await;
    fixture.assert_same_anew("a");
    fixture.assert_same_anew("b");
    server.stop(true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn an_empty_version_is_complete() {
    let fixture = Fixture::new().await;
    std::fs::remove_dir_all(fixture.dir.join("source")).unwrap();
    std::fs::create_dir(fixture.dir.join("source")).unwrap();
    let server = fixture.server().await;
    let version = fixture.version("v1", None).await;
    fixture.publish(&server, "a", &version).await.unwrap();
    assert_eq!((layouts(&server), std::fs::read_dir(fixture.target("a")).unwrap().count()), (vec![EROFSFile], 0));
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}
