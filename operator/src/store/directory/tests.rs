use bytes::Bytes;
use futures::stream;
use granary_crds::exchange::coding::compress;
use sha2::{Digest, Sha256};

use super::*;

const MAX_BYTES: u64 = 1000;

fn body(chunks: &[&'static str]) -> ByteStream {
    stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect::<Vec<_>>()).boxed()
}

/// A body in pieces of seven bytes.
fn bytes(bytes: &[u8]) -> ByteStream {
    stream::iter(bytes.chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>()).boxed()
}

fn zstd(content: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    compress(content.as_bytes(), content.len() as u64, &mut frame).unwrap();
    frame
}

fn address(text: &str) -> Address {
    Address::of(&Sha256::digest(text))
}

async fn open(dir: &tempfile::TempDir) -> Directory {
    Directory::open(dir.path(), MAX_BYTES).await.unwrap()
}

async fn put(store: &Directory, text: &'static str) -> bool {
    store.put(&address(text), Coding::Identity, body(&[text])).await.unwrap()
}

async fn put_zstd(store: &Directory, text: &str) -> Result<bool, Refusal> {
    store.put(&address(text), Coding::Zstd, bytes(&zstd(text))).await
}

async fn read(store: &Directory, address: &Address, accepted: Coding) -> Option<(Coding, Vec<u8>)> {
    let mut outgoing = store.get(address, accepted).await.unwrap()?;
    let mut all = Vec::new();
    while let Some(chunk) = outgoing.stream.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(outgoing.bytes, all.len() as u64);
    Some((outgoing.coding, all))
}

fn count(dir: &tempfile::TempDir, below: &str) -> usize {
    std::fs::read_dir(dir.path().join(below)).unwrap().count()
}

#[tokio::test]
async fn stores_what_has_the_digest_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let hello = address("hello");
    assert!(store.put(&hello, Coding::Identity, body(&["hel", "lo"])).await.unwrap());
    assert!(!store.put(&hello, Coding::Identity, body(&["whatever"])).await.unwrap());
    assert_eq!(read(&store, &hello, Coding::Identity).await, Some((Coding::Identity, b"hello".to_vec())));

    let other = address("other");
    let long: &'static str = "too long too long".repeat(60).leak();
    let broken = stream::iter([Ok(Bytes::from_static(b"oth")), Err(io::Error::other("cut"))]).boxed();
    let put = |body| store.put(&other, Coding::Identity, body);
    assert!(matches!(put(body(&["wrong"])).await, Err(Refusal::Bad(_))));
    assert!(matches!(put(body(&["also ", long])).await, Err(Refusal::TooLarge(_))));
    assert!(matches!(put(broken).await, Err(Refusal::Bad(_))));
    assert!(read(&store, &other, Coding::Identity).await.is_none());
    assert_eq!((count(&dir, "uploads"), count(&dir, "artifacts")), (0, 1));
}

#[tokio::test]
async fn keeps_what_was_sent_compressed_and_gives_it_either_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let text = "train/images/".repeat(70);
    assert!(put_zstd(&store, &text).await.unwrap());
    assert!(!put_zstd(&store, &text).await.unwrap());
    let (address, frame) = (address(&text), zstd(&text));
    assert!(!store.put(&address, Coding::Identity, bytes(text.as_bytes())).await.unwrap(), "it is there already");
    assert_eq!(read(&store, &address, Coding::Zstd).await, Some((Coding::Zstd, frame.clone())));
    assert_eq!(read(&store, &address, Coding::Identity).await, Some((Coding::Identity, text.clone().into_bytes())));
    assert_eq!(store.size(&address).await.unwrap(), Some(text.len() as u64), "that of the content");
    let all = store.list().await.unwrap();
    assert_eq!((all.len(), all[0].bytes, &all[0].address), (1, frame.len() as u64, &address), "what it takes");
    store.delete(&address).await.unwrap();
    assert_eq!(count(&dir, "artifacts"), 0);
}

#[tokio::test]
async fn what_lies_uncompressed_is_given_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    put(&store, "hello").await;
    assert_eq!(read(&store, &address("hello"), Coding::Zstd).await, Some((Coding::Identity, b"hello".to_vec())));
}

#[tokio::test]
async fn zstd_that_nobody_would_send_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let hello = address("hello");
    let put = |frame: Vec<u8>| store.put(&hello, Coding::Zstd, bytes(&frame));
    // It is the content that has the digest, and that may have 1000 bytes.
    assert!(matches!(put(zstd("other")).await, Err(Refusal::Bad(_))));
    assert!(matches!(put(zstd(&"0".repeat(1001))).await, Err(Refusal::TooLarge(_))));
    let frame = zstd("hello");
    assert!(matches!(put(b"hello".to_vec()).await, Err(Refusal::Bad(_))));
    assert!(matches!(put(frame[..frame.len() - 1].to_vec()).await, Err(Refusal::Bad(_))));
    assert!(matches!(put([frame.clone(), frame.clone()].concat()).await, Err(Refusal::Bad(_))));
    assert!(matches!(put(Vec::new()).await, Err(Refusal::Bad(_))));
    // A frame of one raw block that does not say its length: the store could not tell it later.
    let silent = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0x29, 0, 0][..], b"hello"].concat();
    let refusal = put(silent).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Bad(message) if message.contains("how long")), "{refusal}");
    assert_eq!((count(&dir, "uploads"), count(&dir, "artifacts")), (0, 0));
    assert!(put(frame).await.unwrap());
}

#[tokio::test]
async fn survives_a_restart_and_forgets_deleted_ones() {
    let dir = tempfile::tempdir().unwrap();
    let hello = address("hello");
    {
        let store = open(&dir).await;
        put(&store, "hello").await;
        std::fs::write(dir.path().join("uploads/7"), "left").unwrap();
        std::fs::write(dir.path().join("artifacts/README"), "not ours").unwrap();
    }
    let store = open(&dir).await;
    assert_eq!(count(&dir, "uploads"), 0);
    let all = store.list().await.unwrap();
    assert_eq!((all.len(), all[0].bytes), (1, 5));
    store.delete(&hello).await.unwrap();
    store.delete(&hello).await.unwrap();
    assert_eq!(store.size(&hello).await.unwrap(), None);
}

#[tokio::test]
async fn has_all_means_with_their_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    put(&store, "hello").await;
    put_zstd(&store, "compressed").await.unwrap();
    let artifact = |text: &str, size_bytes| granary_crds::dataset_version::Artifact {
        digest: address(text).to_string(),
        size_bytes,
        ..Default::default()
    };
    assert!(store.has_all(&[artifact("hello", 5), artifact("compressed", 10)]).await.unwrap());
    assert!(!store.has_all(&[artifact("hello", 6)]).await.unwrap());
    assert!(!store.has_all(&[artifact("compressed", 11)]).await.unwrap());
    assert!(!store.has_all(&[artifact("hello", 5), artifact("other", 5)]).await.unwrap());
}
