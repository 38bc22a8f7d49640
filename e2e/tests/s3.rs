//! The S3 server: what demo and tests put their data into. Needs a running cluster, for its network.

use std::io::Write;

use granary_e2e::cluster::Cluster;
use granary_e2e::paths::Paths;
use granary_e2e::s3::{Bucket, Keys, READER, S3};
use sha2::{Digest, Sha256};

const NAME: &str = "e2e-s3";

/// Goes with the test, also when it fails.
struct Guard(S3);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.0.delete_bucket(NAME) {
            eprintln!("the bucket {NAME} is left: {error:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cluster up"]
async fn trees_and_large_files_arrive_whole_and_a_reader_can_only_read() {
    let paths = Paths::from_env().unwrap();
    Cluster::running(&paths).unwrap();
    let guard = Guard(S3::start(&paths).unwrap());
    let bucket = guard.0.bucket(NAME).unwrap();

    let dir = tempfile::tempdir().unwrap();
    for number in 0..500 {
        let file = dir.path().join(format!("d{}/f{number}", number % 7));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("content {number}")).unwrap();
    }
    let sent = bucket.put_tree("tree/", dir.path()).await.unwrap();
    assert_eq!(sent.files, 500);

    let large = dir.path().join("large");
    let mut file = std::fs::File::create(&large).unwrap();
    let mut hash = Sha256::new();
    for number in 0_u32..9 {
        let part: Vec<u8> = (0..5_000_011_u32).map(|at| (at.wrapping_mul(number + 7) >> 3) as u8).collect();
        hash.update(&part);
        file.write_all(&part).unwrap();
    }
    bucket.put_file("large", &large).await.unwrap();

    let reader = Bucket::open(&guard.0.endpoint(), NAME, READER).unwrap();
    assert_eq!(reader.operator().list_with("tree/").recursive(true).await.unwrap().len(), 500);
    assert_eq!(reader.operator().read("tree/d3/f10").await.unwrap().to_vec(), b"content 10");
    assert_eq!(Sha256::digest(reader.operator().read("large").await.unwrap().to_vec()), hash.finalize());
    assert!(reader.put("tree/new", "x").await.is_err());

    let stranger = Keys { access_key: "nobody", secret_key: "nothing" };
    let stranger = Bucket::open(&guard.0.endpoint(), NAME, stranger).unwrap();
    assert!(stranger.operator().read("tree/d3/f10").await.is_err());
}
