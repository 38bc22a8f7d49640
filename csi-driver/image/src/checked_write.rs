//! Writing an artifact while its content address is made.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::Digest;

/// Passes bytes on in large pieces and keeps their count and SHA-256.
pub(crate) struct DigestWriter<'a, W: Write> {
    out: &'a mut W,
    buffer: Vec<u8>,
    hash: Sha256,
    bytes: u64,
}

const BUFFER_BYTES: usize = 256 << 10;

impl<'a, W: Write> DigestWriter<'a, W> {
    pub(crate) fn new(out: &'a mut W) -> Self {
        Self { out, buffer: Vec::with_capacity(BUFFER_BYTES), hash: Sha256::new(), bytes: 0 }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.drain()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            self.hash.update(bytes);
            return self.out.write_all(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes zeros up to the position `end`.
    pub(crate) fn pad_to(&mut self, end: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.bytes < end {
            let count = (end - self.bytes).min(ZEROS.len() as u64) as usize;
            self.write(&ZEROS[..count])?;
        }
        Ok(())
    }

    /// Hands over what is buffered and returns digest and length.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.drain()?;
        self.out.flush()?;
        Ok((Digest::from_hasher(self.hash), self.bytes))
    }

    fn drain(&mut self) -> io::Result<()> {
        self.hash.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
