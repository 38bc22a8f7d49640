//! Content codings of artifacts on the way and in the store: none, or `zstd` (RFC 8878).
//!
//! A digest is always that of the content, never of what was made of it for the way. A `zstd` body is one frame that says how long its
//! content is and needs a window of at most 8 MiB, as RFC 9659 has it for HTTP. Nobody believes it: how much may come out of it is known
//! before, and the digest is compared after.

use std::io::{self, Read, Write};

use zstd::stream::raw::{DParameter, Decoder, Operation};
use zstd::stream::write::Encoder;

/// Name of the coding in `Content-Encoding` and `Accept-Encoding`.
pub const ZSTD: &str = "zstd";
/// Enough of a frame's beginning for [`content_length`].
pub const HEADER_BYTES: usize = 18;

/// Images and tables become as small with it as with higher levels, in half the time.
const LEVEL: i32 = 1;
const WINDOW_LOG_MAX: u32 = 23;
/// Most that comes out of one step.
const STEP_BYTES: usize = 128 * 1024;

/// How an artifact's bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Identity,
    /// In one zstd frame.
    Zstd,
}

impl Coding {
    /// What a `Content-Encoding` says; none if it is a coding that is not taken.
    pub fn of(content_encoding: Option<&str>) -> Option<Self> {
        match content_encoding.map(str::trim) {
            None => Some(Self::Identity),
            Some(name) if name.eq_ignore_ascii_case("identity") => Some(Self::Identity),
            Some(name) if name.eq_ignore_ascii_case(ZSTD) => Some(Self::Zstd),
            Some(_) => None,
        }
    }

    /// The best of those that an `Accept-Encoding` names.
    pub fn accepted(accept_encoding: Option<&str>) -> Self {
        let takes = |item: &str| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
            name.eq_ignore_ascii_case(ZSTD) && !refused
        };
        if accept_encoding.unwrap_or_default().split(',').any(takes) { Self::Zstd } else { Self::Identity }
    }
}

/// Why a body cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CodingError {
    /// It is no zstd, damaged, or needs more memory than anybody gives it.
    #[error("it cannot be decompressed: {0}")]
    Damaged(#[source] io::Error),
    /// More comes out of it than may.
    #[error("it decompresses to more than {0} bytes")]
    TooLong(u64),
    /// It ends too early.
    #[error("it ends in the middle of a zstd frame")]
    Unfinished,
    /// There is more than one frame.
    #[error("something follows the zstd frame")]
    Trailing,
}

/// Decompresses a body that comes in pieces, some at a time: a few bytes can become very many.
pub struct Decompressor {
    decoder: Decoder<'static>,
    limit: u64,
    length: u64,
    output: Box<[u8]>,
    /// More may come out although nothing goes in.
    is_full: bool,
    is_done: bool,
}

impl Decompressor {
    /// Lets at most `limit` bytes out.
    pub fn new(limit: u64) -> Result<Self, CodingError> {
        let mut decoder = Decoder::new().map_err(CodingError::Damaged)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(CodingError::Damaged)?;
        let output = vec![0; STEP_BYTES].into_boxed_slice();
        Ok(Self { decoder, limit, length: 0, output, is_full: false, is_done: false })
    }

    /// The next bytes of what `input` becomes; none when all of it is used.
    pub fn step(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, CodingError> {
        loop {
            if input.is_empty() && !self.is_full {
                return Ok(None);
            }
            if self.is_done {
                return if input.is_empty() { Ok(None) } else { Err(CodingError::Trailing) };
            }
            let step = self.decoder.run_on_buffers(input, &mut self.output).map_err(CodingError::Damaged)?;
            *input = &input[step.bytes_read..];
            self.is_full = step.bytes_written == self.output.len();
            self.is_done = step.remaining == 0;
            self.length += step.bytes_written as u64;
            if self.length > self.limit {
                return Err(CodingError::TooLong(self.limit));
            }
            if step.bytes_written > 0 {
                return Ok(Some(&self.output[..step.bytes_written]));
            }
        }
    }

    /// Ends the body; the length of its content, in bytes.
    pub fn finish(self) -> Result<u64, CodingError> {
        if self.is_done { Ok(self.length) } else { Err(CodingError::Unfinished) }
    }
}

/// The length that a frame says its content has, in bytes; none if it does not, or is no frame. `header` is its beginning:
/// [`HEADER_BYTES`] are enough.
pub fn content_length(header: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(header).ok().flatten()
}

/// Writes `bytes` bytes of `content` to `to` as a frame.
pub fn compress(mut content: impl Read, bytes: u64, to: impl Write) -> io::Result<()> {
    let mut encoder = Encoder::new(to, LEVEL)?;
    encoder.set_pledged_src_size(Some(bytes))?;
    io::copy(&mut content, &mut encoder)?;
    encoder.finish()?.flush()
}

#[cfg(test)]
mod tests;
