//! Checksums of whole objects that a source states, compared with the bytes as they pass.
//!
//! S3 states one when it is asked to and nothing but all of the object is read. Checksums of parts that were put together (of
//! multipart uploads) cannot be compared without knowing the parts, and are left alone.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

/// Asks for what is in the other headers.
const MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
/// `FULL_OBJECT` or `COMPOSITE`; not every server tells.
const TYPE: &str = "x-amz-checksum-type";
/// The cheapest first: an object seldom has several.
const STATED: [(&str, &str, Algorithm); 4] = [
    ("x-amz-checksum-crc64nvme", "CRC64NVME", Algorithm::Crc(CrcAlgorithm::Crc64Nvme, 8)),
    ("x-amz-checksum-crc32c", "CRC32C", Algorithm::Crc(CrcAlgorithm::Crc32Iscsi, 4)),
    ("x-amz-checksum-crc32", "CRC32", Algorithm::Crc(CrcAlgorithm::Crc32IsoHdlc, 4)),
    ("x-amz-checksum-sha256", "SHA-256", Algorithm::Sha256),
];

#[derive(Clone, Copy)]
enum Algorithm {
    /// With the number of bytes that it has.
    Crc(CrcAlgorithm, usize),
    Sha256,
}

/// A checksum that the bytes of an answer must have.
pub(crate) struct Checksum {
    name: &'static str,
    expected: Vec<u8>,
    hasher: Hasher,
}

enum Hasher {
    Crc(Box<crc_fast::Digest>, usize),
    Sha256(Box<Sha256>),
}

/// Has the source state checksums. To be called before the request is signed.
pub(crate) fn ask(headers: &mut HeaderMap) {
    headers.insert(MODE, HeaderValue::from_static("ENABLED"));
}

impl Checksum {
    /// The one that is stated, if it is of the whole object.
    pub(crate) fn stated(headers: &HeaderMap) -> Option<Self> {
        if headers.get(TYPE).is_some_and(|kind| kind != "FULL_OBJECT") {
            return None;
        }
        STATED.iter().find_map(|&(header, name, algorithm)| {
            // That of an object in parts ends with "-" and their number, and is no base64.
            let expected = STANDARD.decode(headers.get(header)?.as_bytes()).ok()?;
            let (hasher, length) = match algorithm {
                Algorithm::Crc(crc, length) => (Hasher::Crc(Box::new(crc_fast::Digest::new(crc)), length), length),
                Algorithm::Sha256 => (Hasher::Sha256(Box::default()), 32),
            };
            (expected.len() == length).then_some(Self { name, expected, hasher })
        })
    }

    /// The next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            Hasher::Crc(crc, _) => crc.update(bytes),
            Hasher::Sha256(sha256) => sha256.update(bytes),
        }
    }

    /// Compares when all bytes have passed. The error says what differs.
    pub(crate) fn compare(self) -> Result<(), String> {
        let found = match self.hasher {
            Hasher::Crc(crc, length) => crc.finalize().to_be_bytes()[8 - length..].to_vec(),
            Hasher::Sha256(sha256) => sha256.finalize().to_vec(),
        };
        if found == self.expected {
            return Ok(());
        }
        Err(format!("{} {}, not {}", self.name, STANDARD.encode(found), STANDARD.encode(self.expected)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// The outcome for "123456789", whose checksums the catalogues of CRCs state; `None` if nothing is compared.
    fn outcome(pairs: &[(&'static str, &str)]) -> Option<Result<(), String>> {
        let mut checksum = Checksum::stated(&headers(pairs))?;
        checksum.update(b"1234");
        checksum.update(b"56789");
        Some(checksum.compare())
    }

    #[test]
    fn all_kinds_are_compared() {
        let hex = |text: &str| STANDARD.encode(hex::decode(text).unwrap());
        for (header, right) in [
            ("x-amz-checksum-crc64nvme", hex("ae8b14860a799888")),
            ("x-amz-checksum-crc32c", hex("e3069283")),
            ("x-amz-checksum-crc32", hex("cbf43926")),
            ("x-amz-checksum-sha256", hex("15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225")),
        ] {
            assert_eq!(outcome(&[(header, &right)]), Some(Ok(())), "{header}");
            assert_eq!(outcome(&[(header, &right), (TYPE, "FULL_OBJECT")]), Some(Ok(())), "{header}");
            assert_eq!(outcome(&[(header, &right), (TYPE, "COMPOSITE")]), None);
            let length = STANDARD.decode(&right).unwrap().len();
            let text = outcome(&[(header, &STANDARD.encode(vec![7; length]))]).unwrap().unwrap_err();
            assert!(text.contains(&right), "{text}");
            assert_eq!(outcome(&[(header, &STANDARD.encode(vec![7; length + 1]))]), None);
        }
    }

    #[test]
    fn what_is_not_of_the_whole_object_is_not_compared() {
        assert_eq!(outcome(&[]), None);
        assert_eq!(outcome(&[("x-amz-checksum-crc32c", "4waSgw==-3")]), None);
        assert_eq!(outcome(&[("x-amz-checksum-sha1", "98PCe2zv2QbQrD+X8P6Xi8bLQdY=")]), None);
        assert_eq!(
            outcome(&[("x-amz-checksum-crc32c", "4waSgw==-3"), ("x-amz-checksum-crc32", "y/Q5Jg==")]),
            Some(Ok(()))
        );
    }
}
