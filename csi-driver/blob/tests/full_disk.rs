//! A filesystem that is really full, or read-only.

mod support;

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use granary_blob::{Origin, OriginError, Pool, PoolError};
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
