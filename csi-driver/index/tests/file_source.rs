//! The whole way with a real source: a directory of this machine.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use granary_fetch::{NoCredentials, Source, SourceConfig, SourcePolicy};
use granary_image::{ExtentTable, ImageReader};
use granary_index::{IndexError, IndexRequest, index};

fn request(uri: String, out: &std::path::Path) -> Result<IndexRequest, IndexError> {
    let config =
        SourceConfig { uri, path: Some("data".to_owned()), exclude: vec!["*.tmp".to_owned()], ..Default::default() };
    let source = Source::open(&config, Arc::new(NoCredentials), Arc::new(SourcePolicy::unrestricted()))?;
    let new_blob_id = "blob-1".to_owned();
    Ok(IndexRequest { sources: vec![(config, source)], parent: None, new_blob_id, out_dir: out.to_owned() })
}

/// Callers may want to run it as a task.
fn sendable<T: Send>(future: T) -> T {
    future
}

#[tokio::test]
async fn a_directory_becomes_a_version_and_stays_the_same() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(data.path().join("sub")).unwrap();
    for (name, content) in [("b.txt", "hello"), ("sub/a", ""), ("sub.x", "1"), ("left.tmp", "out")] {
        std::fs::write(data.path().join(name), content).unwrap();
    }
    let uri = format!("file://{}/", data.path().display());
    let told = AtomicU64::new(0);
    let progress = |count| told.store(count, Ordering::Relaxed);
    let indexed = sendable(index(request(uri.clone(), out.path()).unwrap(), &progress)).await.unwrap();
    assert_eq!(told.into_inner(), 3);
    let image = ImageReader::open(&indexed.image.path).unwrap();
    let files: Vec<_> = image.files().map(|file| file.map(|f| (f.path, f.size)).unwrap()).collect();
    assert_eq!(files, [("data/b.txt".to_owned(), 5), ("data/sub/a".to_owned(), 0), ("data/sub.x".to_owned(), 1)]);

    let mut again = request(uri, out.path()).unwrap();
    again.parent = Some(ExtentTable::open(&indexed.extents.path).unwrap());
    let again = index(again, &|_| ()).await.unwrap();
    assert_eq!(again.parent, Some(indexed.extents.digest));
    assert_eq!(
        (again.extents, again.image, again.listing_digest),
        (indexed.extents, indexed.image, indexed.listing_digest)
    );
}

#[tokio::test]
async fn a_source_that_cannot_be_listed_gives_its_own_reason() {
    let out = tempfile::tempdir().unwrap();
    let missing = request("file:///nowhere/at/all/".to_owned(), out.path());
    let error = match missing {
        Err(error) => error,
        Ok(request) => index(request, &|_| ()).await.unwrap_err(),
    };
    assert!(matches!(error, IndexError::Source(_)), "{error}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}
