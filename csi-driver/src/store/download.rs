//! What the image store sends, written into a file: exactly as many bytes as the version names, however it is packed.

use std::path::Path;

use futures::StreamExt;
use granary_crds::exchange::coding::{Coding, CodingError, Decompressor};
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::StoreError;

/// Writes the content of `response`, the answer for `path`, into `to`: `bytes` bytes, or an error.
pub(super) async fn write(response: Response, path: &str, bytes: u64, to: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::file("write", to, error);
    let useless = |error: CodingError| match error {
        CodingError::TooLong(_) => StoreError::Length { expected: bytes, found: bytes.saturating_add(1) },
        _ => StoreError::Coding { path: path.to_owned(), problem: error.to_string() },
    };
    let mut decompressor = match coding(&response, path)? {
        Coding::Identity => None,
        Coding::Zstd => Some(Decompressor::new(bytes).map_err(useless)?),
    };
    let mut file = File::create(to).await.map_err(failed)?;
    let mut written = 0;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(StoreError::broken)?;
        let mut rest = &chunk[..];
        while let Some(content) = next(&mut decompressor, &mut rest).map_err(useless)? {
            written += content.len() as u64;
            if written > bytes {
                return Err(StoreError::Length { expected: bytes, found: written });
            }
            file.write_all(content).await.map_err(failed)?;
        }
    }
    decompressor.map(Decompressor::finish).transpose().map_err(useless)?;
    if written != bytes {
        return Err(StoreError::Length { expected: bytes, found: written });
    }
    file.flush().await.map_err(failed)
}

/// The next bytes of the content that `rest` has.
fn next<'a, 'd: 'a, 'r: 'a>(
    decompressor: &'d mut Option<Decompressor>,
    rest: &mut &'r [u8],
) -> Result<Option<&'a [u8]>, CodingError> {
    match decompressor {
        Some(decompressor) => decompressor.step(rest),
        None => Ok(Some(std::mem::take(rest)).filter(|content| !content.is_empty())),
    }
}

fn coding(response: &Response, path: &str) -> Result<Coding, StoreError> {
    let name = response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    Coding::of(name).ok_or_else(|| StoreError::Coding {
        path: path.to_owned(),
        problem: format!("nobody asked for the Content-Encoding '{}'", name.unwrap_or_default()),
    })
}
