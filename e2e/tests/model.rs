//! The reference model against image, extent table and cache, without a kernel: every path and every byte.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use granary_blob::{BlobTag, Origin, OriginError, OriginErrorKind, Pool, PoolConfig};
use granary_e2e::torture::lab::{Built, build};
use granary_e2e::torture::model::{Model, Pattern, Shape};
use granary_e2e::torture::origin::key;
use granary_fetch::SourceConfig;
use granary_image::{ExtentTable, ImageReader, Object};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Gives the contents of the models' objects.
struct Contents(std::collections::HashMap<String, Bytes>);

#[async_trait]
impl Origin for Contents {
    async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, OriginError>>, OriginError> {
        match self.0.get(&object.key) {
            Some(bytes) => Ok(stream::iter([Ok(bytes.slice(range.start as usize..range.end as usize))]).boxed()),
            None => Err(OriginError {
                kind: OriginErrorKind::Unavailable,
                reason: "Unknown".to_owned(),
                message: object.key.clone(),
            }),
        }
    }
}

/// Two versions of a dataset, one after the other in one blob.
fn versions(seed: u64, shape: Shape) -> [(Model, Built); 2] {
    let (mut rng, pattern) = (StdRng::seed_from_u64(seed), Pattern::new(seed, 4 << 20));
    let source = SourceConfig { uri: "http://source/".to_owned(), ..SourceConfig::default() };
    let first = Model::random(&mut rng, &pattern, shape);
    let second = first.successor(&mut rng, &pattern, shape);
    let built = build("set", &source, &first, None).expect("a version");
    let table = ExtentTable::from_bytes(built.extents_bytes.clone()).expect("a table");
    let next = build("set", &source, &second, Some(table)).expect("a version");
    [(first, built), (second, next)]
}

async fn check(seed: u64, shape: Shape, places: &[(f64, f64, usize)]) {
    let versions = versions(seed, shape);
    let contents =
        versions.iter().flat_map(|(model, _)| model.files()).map(|(_, file)| (key(file), file.bytes.clone()));
    let origin = Arc::new(Contents(contents.collect()));
    let dir = tempfile::tempdir().expect("a directory");
    let config =
        PoolConfig { dir: dir.path().join("cache"), max_bytes: Some(8 << 20), min_free_percent: 0, min_free_bytes: 0 };
    let pool = Pool::open(config).expect("a cache");
    let tag = BlobTag { dataset_uid: "uid".into(), namespace: "n".into(), name: "set".into() };
    // The older version is read when the newer one is there already, too.
    for (model, built) in versions.iter().rev().chain(&versions) {
        let table = ExtentTable::from_bytes(built.extents_bytes.clone()).expect("a table");
        let image = ImageReader::from_bytes(built.image_bytes.clone()).expect("an image");
        image.validate(&table).expect("a valid image");
        let blob = pool.blob(tag.clone(), table, origin.clone()).expect("a blob");
        let files: Vec<_> = image.files().collect::<Result<_, _>>().expect("files");
        let mut paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, model.files().map(|(path, _)| path).collect::<Vec<_>>());
        for (file, at, len) in places {
            let file = &files[(file * files.len() as f64) as usize];
            let wanted = &model.file(&file.path).expect("a file").bytes;
            assert_eq!(file.size, wanted.len() as u64);
            let Some(offset) = file.blob_offset else { continue };
            let at = (at * wanted.len() as f64) as usize;
            let mut found = vec![0xAA; (*len).min(wanted.len() - at)];
            blob.read(offset + at as u64, &mut found).await.expect("bytes");
            assert!(found == wanted[at..at + found.len()], "{} bytes at {at} of {:?}", found.len(), file.path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_path_and_byte_is_the_models(
        seed in any::<u64>(),
        files in 1usize..80,
        largest in prop_oneof![1usize..5000, 1usize..3 << 20],
        places in proptest::collection::vec((0.0..1.0, 0.0..1.0, 1usize..1 << 20), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
        runtime.block_on(check(seed, Shape { files, largest, crowd: files / 3 }, &places));
    }
}
