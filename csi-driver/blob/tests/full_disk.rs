//! A filesystem that is really full, or read-only.

mod support;

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use granary_blob::{BlobTag, Origin, OriginError, Pool, PoolConfig, PoolError};
use granary_image::Object;
use support::*;

/// A small filesystem in memory, unmounted when dropped.
struct Mount {
    root: tempfile::TempDir,
}

impl Mount {
    fn new(bytes: u64) -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let mount = Self { root };
        mount.run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]);
        mount
    }

    fn run(&self, command: &str, args: &[&str]) {
        let status = Command::new(command).args(args).arg(self.root.path()).status().expect("run");
        assert!(status.success(), "{command} {args:?}");
    }

    fn path(&self) -> &Path {
        self.root.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.root.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.root.path().display());
        }
    }
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("create");
    for chunk in [vec![1; 1 << 16], vec![1; 4096]] {
        while file.write_all(&chunk).is_ok() {}
    }
}

/// Fills the filesystem in the middle of each answer.
struct FillingOrigin {
    ballast: PathBuf,
}

#[async_trait]
impl Origin for FillingOrigin {
    async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, OriginError>>, OriginError> {
        let first = Bytes::from(content(&object.key, range.start..range.start + 4096));
        let rest = Bytes::from(content(&object.key, range.start + 4096..range.end));
        let ballast = self.ballast.clone();
        let rest = stream::once(async move {
            fill(&ballast);
            Ok(rest)
        });
        Ok(stream::iter([Ok(first)]).chain(rest).boxed())
    }
}

#[tokio::test]
#[ignore = "needs root: mounts a small filesystem"]
async fn a_part_that_does_not_fit_any_more_is_served_all_the_same() {
    let mount = Mount::new(16 * MIB);
    let config = config(mount.path(), None);
    let pool = Pool::open(config.clone()).expect("open");
    let ballast = mount.path().join("ballast");
    let origin = Arc::new(FillingOrigin { ballast: ballast.clone() });
    let blob = pool.blob(tag(), table("b", &[("a", 2 * MIB)]), origin).expect("blob");
    check(&blob, 0, MIB as usize).await;
    check(&blob, MIB, MIB as usize).await;
    assert_eq!((blob.cached_bytes(), allocated(&config, "b")), (0, 0));
    assert!(blob.read_errors().is_empty());
    let stats = blob.stats();
    assert_eq!((stats.uncached_bytes, stats.failed_writes), (2 * MIB, 1), "the second part was not tried");
    assert!(matches!(pool.blob(tag(), table("c", &[("a", MIB)]), TestOrigin::new()), Err(PoolError::Full(_))));
    drop((blob, pool));
    std::fs::remove_file(&ballast).expect("remove");
    let pool = open(config.clone()).await;
    let blob = pool.blob(tag(), table("b", &[("a", 2 * MIB)]), TestOrigin::new()).expect("blob");
    check(&blob, 0, 2 * MIB as usize).await;
    assert_eq!(blob.cached_bytes(), 2 * MIB);
}

#[tokio::test]
#[ignore = "needs root: mounts a small filesystem"]
async fn a_dataset_larger_than_the_filesystem_reads() {
    let mount = Mount::new(8 * MIB);
    let pool = Pool::open(config(mount.path(), None)).expect("open");
    let blob = pool.blob(tag(), table("b", &[("a", 20 * MIB)]), TestOrigin::new()).expect("blob");
    for part in 0..20 {
        check(&blob, part * MIB, MIB as usize).await;
    }
    assert!(blob.cached_bytes() >= 4 * MIB);
}

/// Reads four datasets of 12 MiB each with three readers each, to the end.
async fn read_four_datasets(pool: &Arc<Pool>) {
    let blobs: Vec<_> = (0..4)
        .map(|n| {
            let id = format!("set{n}");
            let tag = BlobTag { dataset_uid: id.clone(), ..tag() };
            pool.blob(tag, table(&id, &[(&id, 12 * MIB)]), TestOrigin::new()).expect("blob")
        })
        .collect();
    let readers = blobs.iter().flat_map(|blob| (0..3).map(move |n| (blob.clone(), n)));
    let readers = readers.map(|(blob, n)| {
        tokio::spawn(async move {
            for at in (0..24).map(|at| (at * (n + 1)) % 24 * MIB / 2) {
                if !check_cached(&blob, at, MIB as usize / 2) {
                    check(&blob, at, MIB as usize / 2).await;
                }
            }
        })
    });
    for reader in join_all(readers).await {
        reader.expect("reader");
    }
    assert!(blobs.iter().all(|blob| blob.read_errors().is_empty()));
}

/// Does something again and again, in a thread of its own, until told to stop; gives what it did last.
struct Meanwhile<T> {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<T>,
}

impl<T: Send + Default + 'static> Meanwhile<T> {
    fn start(mut work: impl FnMut(T) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut last = T::default();
            loop {
                last = work(last);
                if stopped.load(SeqCst) {
                    return last;
                }
            }
        });
        Self { stop, thread }
    }

    fn end(self) -> T {
        self.stop.store(true, SeqCst);
        self.thread.join().expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: mounts a small filesystem"]
async fn the_floor_holds_at_every_moment_with_many_datasets_and_readers() {
    let mount = Mount::new(40 * MIB);
    let pool = Pool::open(PoolConfig { min_free_percent: 25, ..config(mount.path(), None) }).expect("open");
    let path = mount.path().to_owned();
    let taken = move || {
        let space = rustix::fs::statvfs(&path).expect("space");
        (space.f_blocks - space.f_bavail) * space.f_frsize
    };
    let most = Meanwhile::start(move |most: u64| most.max(taken()));
    read_four_datasets(&pool).await;
    pool.flush().await;
    let most = most.end();
    // The maps grow by a page for each 255 parts when these become durable, which is not set aside before.
    assert!((15 * MIB..=30 * MIB + 4 * 4096).contains(&most), "{most} bytes taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: mounts a small filesystem"]
async fn readers_go_on_while_others_fill_the_disk_and_free_it() {
    let mount = Mount::new(24 * MIB);
    let pool = Pool::open(config(mount.path(), None)).expect("open");
    let ballast = mount.path().join("ballast");
    let others = Meanwhile::start(move |times: u64| {
        fill(&ballast);
        std::fs::remove_file(&ballast).expect("remove");
        times + 1
    });
    read_four_datasets(&pool).await;
    assert!(others.end() > 1);
    // Whatever the disk took in between is right.
    read_four_datasets(&pool).await;
}

#[tokio::test]
#[ignore = "needs root: mounts a small filesystem"]
async fn what_no_cache_can_live_on_is_refused() {
    let small = Mount::new(3 * MIB);
    assert!(matches!(Pool::open(config(small.path(), None)), Err(PoolError::TooSmall { .. })));
    let full = Mount::new(8 * MIB);
    fill(&full.path().join("ballast"));
    assert!(matches!(Pool::open(config(full.path(), None)), Err(PoolError::Full(_))));
    let read_only = Mount::new(8 * MIB);
    read_only.run("mount", &["-o", "remount,ro"]);
    assert!(matches!(Pool::open(config(read_only.path(), None)), Err(PoolError::ReadOnly(_))));
}
