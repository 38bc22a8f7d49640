//! A version against a model of it: paths, attributes and bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use fuser::FileType;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use granary_blob::{Blob, BlobTag, Origin, OriginError, Pool, PoolConfig};
use granary_image::{ImageBuilder, ImageReader, Object, Pin, PinKind, SourceId, TableBuilder};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::{Builder, Runtime};

use super::fuse::attributes;
use super::tree::{ROOT, Tree, TreeError};
use crate::fuse_session::MAX_READ;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// Path to content.
type Model = BTreeMap<String, Bytes>;

/// Byte `at` of a file: differs between files, blocks and parts.
fn content(seed: usize, size: usize) -> Bytes {
    (0..size).map(|at| (at ^ (at >> 8) ^ (at >> 16) ^ seed.wrapping_mul(37)) as u8).collect()
}

#[async_trait]
impl Origin for TestOrigin {
    async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, OriginError>>, OriginError> {
        let bytes = self.0[&object.key].slice(range.start as usize..range.end as usize);
        Ok(stream::iter([Ok(bytes)]).boxed())
    }
}

struct TestOrigin(Model);

/// A version of `model`, with nothing cached, in a cache of its own.
struct Version {
    tree: Tree,
    blob: Arc<Blob>,
    _dir: tempfile::TempDir,
}

impl Version {
    fn of(model: &Model) -> Self {
        let _runtime = RUNTIME.enter();
        let (mut image, mut table) = (ImageBuilder::new(), TableBuilder::new("blob".to_owned()));
        for (path, bytes) in model {
            let pin = Pin { kind: PinKind::ETag, value: "\"1\"".into() };
            let object = Object { source: SourceId([0; 16]), key: path.clone(), pin, size: bytes.len() as u64 };
            let offset = if bytes.is_empty() { 0 } else { table.allocate(&object).unwrap() };
            image.add_file(path, object.size, offset).unwrap();
        }
        let (mut image_bytes, mut table_bytes) = (Vec::new(), Vec::new());
        let summary = table.finish(&mut table_bytes).unwrap();
        image.finish(summary.blob_bytes, &mut image_bytes).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config =
            PoolConfig { dir: dir.path().join("pool"), max_bytes: None, min_free_percent: 0, min_free_bytes: 0 };
        let tag = BlobTag { dataset_uid: "u".into(), namespace: "n".into(), name: "d".into() };
        let table = granary_image::ExtentTable::from_bytes(table_bytes).unwrap();
        let blob = Pool::open(config).unwrap().blob(tag, table, Arc::new(TestOrigin(model.clone()))).unwrap();
        Self { tree: Tree::new(ImageReader::from_bytes(image_bytes).unwrap()), blob, _dir: dir }
    }

    /// What the kernel gets for a read.
    fn read(&self, file: u64, offset: u64, len: u64) -> Vec<u8> {
        let range = self.tree.range(file, offset, len).unwrap();
        let mut buf = vec![0xaa; (range.end - range.start) as usize];
        if !buf.is_empty() {
            RUNTIME.block_on(self.blob.read(range.start, &mut buf)).unwrap();
        }
        buf
    }

    /// All of a file, as the kernel would ask for it.
    fn read_all(&self, file: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let more = self.read(file, bytes.len() as u64, u64::from(MAX_READ));
            if more.is_empty() {
                return bytes;
            }
            bytes.extend(more);
        }
    }

    /// Numbers of the files below a directory by their paths, each directory's attributes and entries being checked.
    fn walk(&self, directory: u64, parent: u64, prefix: &str, found: &mut BTreeMap<String, u64>) {
        let own = self.tree.node(directory).unwrap();
        let mut subdirectories = 0;
        for entry in self.tree.list(directory, 0).unwrap().map(Result::unwrap) {
            let name = str::from_utf8(entry.name).unwrap();
            let node = self.tree.find(directory, entry.name).unwrap().unwrap();
            assert_eq!((node.number, node.is_directory()), (entry.number, entry.is_directory), "{prefix}{name}");
            match name {
                "." => assert_eq!(entry.number, own.number),
                ".." => assert_eq!(entry.number, parent),
                _ if entry.is_directory => {
                    subdirectories += 1;
                    self.walk(entry.number, own.number, &format!("{prefix}{name}/"), found);
                }
                _ => assert_eq!(found.insert(format!("{prefix}{name}"), entry.number), None),
            }
        }
        let shown = attributes(&own);
        assert_eq!((shown.kind, shown.perm, shown.nlink), (FileType::Directory, 0o555, subdirectories + 2));
        assert!(self.tree.find(directory, b"not here").unwrap().is_none());
        assert!(matches!(self.tree.range(directory, 0, 1), Err(TreeError::IsADirectory)));
    }

    fn check(&self, model: &Model) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        self.walk(ROOT, ImageReader::ROOT, "", &mut found);
        assert_eq!(found.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
        for (path, number) in &found {
            let (shown, expected) = (attributes(&self.tree.node(*number).unwrap()), &model[path]);
            assert_eq!((shown.ino.0, shown.kind, shown.perm, shown.nlink), (*number, FileType::RegularFile, 0o444, 1));
            assert_eq!((shown.size, shown.uid, shown.gid), (expected.len() as u64, 0, 0), "{path}");
            assert!(self.read_all(*number) == *expected, "{path}");
            assert!(matches!(self.tree.list(*number, 0), Err(TreeError::NotADirectory)));
            assert!(matches!(self.tree.find(*number, b"x"), Err(TreeError::NotADirectory)));
        }
        let nodes = self.tree.totals().nodes;
        assert!(nodes > found.len() as u64, "{nodes}");
        found
    }
}

fn models() -> impl Strategy<Value = Model> {
    let name = prop_oneof![4 => "[a-c.é-]{1,3}", 1 => "[a-b]{250,255}"];
    let path = prop::collection::vec(name, 1..5).prop_map(|parts| parts.join("/"));
    let size = prop_oneof![2 => Just(0usize), 6 => 1usize..20_000, 1 => (1usize << 20) - 2..(3 << 20)];
    prop::collection::btree_map(path, size, 0..24).prop_map(|files| {
        let mut builder = ImageBuilder::new();
        let taken = files.into_iter().filter(|(path, _)| builder.add_file(path, 0, 0).is_ok());
        taken.enumerate().map(|(seed, (path, size))| (path, content(seed, size))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_version_is_what_its_model_says(
        model in models(),
        reads in prop::collection::vec((any::<Index>(), 0u64..3 << 20, 0u64..1 << 20), 0..16),
    ) {
        let version = Version::of(&model);
        let numbers = version.check(&model);
        let numbers: Vec<_> = numbers.into_iter().collect();
        for (file, offset, len) in reads.into_iter().filter(|_| !numbers.is_empty()) {
            let (path, number) = file.get(&numbers);
            let bytes = &model[path];
            let start = bytes.len().min(offset as usize);
            let end = bytes.len().min((offset + len) as usize);
            prop_assert!(version.read(*number, offset, len) == bytes[start..end], "{} at {}", path, offset);
        }
    }
}

/// More entries than a block of the image or an answer to the kernel has room for.
#[test]
fn a_large_directory_is_listed_from_every_place_on() {
    let model: Model = (0..3000).map(|n| (format!("d/file-{n:05}"), Bytes::new())).collect();
    let version = Version::of(&model);
    version.check(&model);
    let directory = version.tree.find(ROOT, b"d").unwrap().unwrap().number;
    let all: Vec<_> = version.tree.list(directory, 0).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), 3002);
    for nth in [0, 1, 100, 1500, 3000, 3001] {
        let rest: Vec<_> = version.tree.list(directory, all[nth].next).unwrap().map(Result::unwrap).collect();
        assert!(rest == all[nth + 1..], "after {nth}");
    }
}
