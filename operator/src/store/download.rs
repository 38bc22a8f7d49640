//! Gives an artifact to a client that does not take it as it is stored.

use std::io;

use bytes::{Buf, Bytes};
use futures::{StreamExt, stream};
use granary_crds::exchange::coding::Decompressor;

use super::ByteStream;

/// The content of `body`, which is zstd, of at most `bytes` bytes.
pub(super) fn decompressed(body: ByteStream, bytes: u64) -> io::Result<ByteStream> {
    let decompressor = Decompressor::new(bytes).map_err(io::Error::other)?;
    let pieces =
        stream::try_unfold((body, decompressor, Bytes::new()), |(mut body, mut decompressor, mut piece)| async {
            loop {
                let mut rest = &piece[..];
                let content = decompressor.step(&mut rest).map_err(io::Error::other)?.map(Bytes::copy_from_slice);
                let used = piece.len() - rest.len();
                piece.advance(used);
                if let Some(content) = content {
                    return Ok(Some((content, (body, decompressor, piece))));
                }
                match body.next().await {
                    Some(next) => piece = next?,
                    None => return decompressor.finish().map(|_| None).map_err(io::Error::other),
                }
            }
        });
    Ok(pieces.boxed())
}
