//! The way to the operator's image store.

use axum::http::StatusCode;
use granary_csi_driver::store::StoreError;
use granary_image::Digest;

use crate::operator::{Operator, certificates, zstd};

#[tokio::test]
async fn fetches_exactly_the_bytes() {
    let operator = Operator::start().await;
    let digest = operator.hold(b"image");
    let to = operator.file("image");
    operator.client().get(&digest, 5, &to).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), b"image");
    operator.change(|store| store.is_old = true);
    operator.client().get(&digest, 5, &to).await.unwrap();
    assert_eq!(std::fs::read(to).unwrap(), b"image");
}

#[tokio::test]
async fn takes_no_more_from_a_store_than_the_version_names() {
    let operator = Operator::start().await;
    let digest = operator.hold(b"image");
    let frame = zstd(b"image");
    for (coding, body, words) in [
        // 64 MiB of zeros are a few KiB on the way.
        ("zstd", zstd(&vec![0; 64 << 20]), "sent 6 bytes or more of 5"),
        ("zstd", zstd(b"imag"), "sent 4 bytes or more of 5"),
        ("zstd", b"image".to_vec(), "cannot be decompressed"),
        ("zstd", frame[..frame.len() - 1].to_vec(), "ends in the middle"),
        ("zstd", [frame.clone(), frame.clone()].concat(), "follows the zstd frame"),
        ("gzip", b"image".to_vec(), "'gzip'"),
    ] {
        // For as many attempts as it may make.
        operator.change(|store| store.answers = vec![(coding, body); 6]);
        let to = operator.file("image");
        let error = operator.client().get(&digest, 5, &to).await.unwrap_err().to_string();
        assert!(error.contains(words), "'{words}' is not in: {error}");
        assert!(std::fs::metadata(to).map_or(0, |file| file.len()) <= 5);
    }
}

#[tokio::test]
async fn tries_again_after_trouble_of_the_server() {
    let operator = Operator::start().await;
    let digest = operator.hold(b"image");
    operator.change(|store| store.failures = vec![StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNAUTHORIZED]);
    operator.client().get(&digest, 5, &operator.file("image")).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_twice() {
    let operator = Operator::start().await;
    operator.change(|store| store.failures = vec![StatusCode::NOT_FOUND, StatusCode::IM_A_TEAPOT]);
    let digest = operator.hold(b"image");
    let error = operator.client().get(&digest, 5, &operator.file("image")).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(error.to_string().contains("not now"), "{error}");
    assert_eq!(operator.change(|store| store.failures.len()), 1);
}

#[tokio::test]
async fn a_renewed_token_is_used_at_once() {
    let operator = Operator::start().await;
    let (client, digest) = (operator.client(), operator.hold(b"image"));
    client.get(&digest, 5, &operator.file("image")).await.unwrap();
    operator.change(|store| {
        store.token = "second".into();
        // A second attempt would meet this.
        store.failures.clear();
    });
    std::fs::write(operator.file("token"), "second").unwrap();
    client.get(&digest, 5, &operator.file("image")).await.unwrap();
}

#[tokio::test]
async fn an_authority_may_come_late_and_another_is_not_trusted() {
    let operator = Operator::start().await;
    let (client, digest) = (operator.client(), operator.hold(b"image"));
    let right = std::fs::read(operator.file("ca.crt")).unwrap();
    let (other, ..) = certificates();
    std::fs::write(operator.file("ca.crt"), other).unwrap();
    let error = client.get(&digest, 5, &operator.file("image")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    std::fs::write(operator.file("ca.crt"), "").unwrap();
    let error = client.get(&digest, 5, &operator.file("image")).await.unwrap_err();
    assert!(matches!(error, StoreError::Authority(_)), "{error}");
    std::fs::write(operator.file("ca.crt"), right).unwrap();
    client.get(&digest, 5, &operator.file("image")).await.unwrap();
}

#[tokio::test]
async fn another_length_is_an_error() {
    let operator = Operator::start().await;
    let digest = operator.hold(b"image");
    for bytes in [4, 6] {
        let error = operator.client().get(&digest, bytes, &operator.file("image")).await.unwrap_err();
        assert!(matches!(error, StoreError::Length { .. }), "{error}");
    }
}

#[tokio::test]
async fn stores_a_large_file_after_trouble_in_the_middle() {
    let operator = Operator::start().await;
    // Not the same all along, so that it is still large when it is compressed.
    let bytes: Vec<u8> = (0..30_000_000_u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let digest = Digest::of(&bytes);
    let file = operator.file("image");
    std::fs::write(&file, &bytes).unwrap();
    operator.change(|store| store.failures = vec![StatusCode::SERVICE_UNAVAILABLE]);
    operator.client().put(&digest, bytes.len() as u64, &file).await.unwrap();
    assert!(operator.change(|store| store.artifacts[&digest.to_string()] == bytes));
    assert!(!operator.file("image.zst").exists(), "the compressed copy stayed");
}

#[tokio::test]
async fn sends_less_than_there_is() {
    let operator = Operator::start().await;
    let bytes = b"train/images/".repeat(10_000);
    let (digest, file) = (Digest::of(&bytes), operator.file("image"));
    std::fs::write(&file, &bytes).unwrap();
    operator.client().put(&digest, bytes.len() as u64, &file).await.unwrap();
    let (received, artifact) = operator.change(|store| (store.received, store.artifacts[&digest.to_string()].clone()));
    assert!(artifact == bytes && received < bytes.len() / 10, "{received} bytes");
}
