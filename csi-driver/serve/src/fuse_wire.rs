//! As much of FUSE's messages as a journal has to know, as `linux/fuse.h` has them.

use fuser::Errno;

/// Bytes of `struct fuse_in_header`.
const HEADER_BYTES: usize = 40;
/// Bytes of `struct fuse_out_header`.
pub(crate) const ANSWER_BYTES: usize = 16;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const READ: u32 = 15;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

/// What the kernel asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Bytes of a file.
    Read { unique: u64, inode: u64, offset: u64, len: u32 },
    /// A name that is longer than a cell, and so than any name.
    LongName { unique: u64 },
    /// Anything else, in so many bytes.
    Other { unique: u64, bytes: usize },
    /// Nothing: it says what wants no answer.
    Statement,
}

impl Request {
    /// What a cell has that begins with these bytes. `None` if that is no request.
    pub(crate) fn parse(cell: &[u8]) -> Option<Self> {
        let bytes = u32_at(cell, 0)? as usize;
        let (operation, unique, inode) = (u32_at(cell, 4)?, u64_at(cell, 8)?, u64_at(cell, 16)?);
        if bytes < HEADER_BYTES {
            return None;
        }
        let argument = cell.get(HEADER_BYTES..bytes.min(cell.len()))?;
        match operation {
            FORGET | BATCH_FORGET => Some(Self::Statement),
            READ => Some(Self::Read { unique, inode, offset: u64_at(argument, 8)?, len: u32_at(argument, 16)? }),
            LOOKUP if bytes > cell.len() => Some(Self::LongName { unique }),
            _ => Some(Self::Other { unique, bytes }),
        }
    }
}

/// A request that ends a session.
pub(crate) fn destroy() -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&(HEADER_BYTES as u32).to_ne_bytes());
    bytes[4..8].copy_from_slice(&DESTROY.to_ne_bytes());
    bytes[8] = 1;
    bytes
}

/// What stands before `data` of an answer.
pub(crate) fn answer(unique: u64, data: &[u8]) -> [u8; ANSWER_BYTES] {
    answer_header((ANSWER_BYTES + data.len()) as u32, 0, unique)
}

/// An answer that says what went wrong.
pub(crate) fn refusal(unique: u64, error: Errno) -> [u8; ANSWER_BYTES] {
    answer_header(ANSWER_BYTES as u32, -error.code(), unique)
}

/// The length of an answer that begins with this header. `None` if it has none.
pub(crate) fn answer_len(header: &[u8; ANSWER_BYTES]) -> Option<usize> {
    let len = u32_at(header, 0)? as usize;
    (len >= ANSWER_BYTES).then_some(len)
}

fn answer_header(len: u32, error: i32, unique: u64) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..8].copy_from_slice(&error.to_ne_bytes());
    bytes[8..].copy_from_slice(&unique.to_ne_bytes());
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::CELL_BYTES;

    /// A request as the kernel writes it.
    pub(crate) fn request(operation: u32, unique: u64, inode: u64, argument: &[u8]) -> Vec<u8> {
        let len = (HEADER_BYTES + argument.len()) as u32;
        let mut bytes = [len.to_ne_bytes(), operation.to_ne_bytes()].concat();
        bytes.extend([unique.to_ne_bytes(), inode.to_ne_bytes()].concat());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(argument);
        bytes
    }

    pub(crate) fn read(unique: u64, inode: u64, offset: u64, len: u32) -> Vec<u8> {
        let mut argument = [u64::MAX.to_ne_bytes(), offset.to_ne_bytes()].concat();
        argument.extend(len.to_ne_bytes());
        argument.resize(40, 0);
        request(READ, unique, inode, &argument)
    }

    #[test]
    fn requests_are_what_the_kernel_says() {
        let found = Request::parse(&read(7, 2, 1 << 40, 4096)).unwrap();
        assert_eq!(found, Request::Read { unique: 7, inode: 2, offset: 1 << 40, len: 4096 });
        let found = Request::parse(&request(1, 9, 1, b"name\0")).unwrap();
        assert_eq!(found, Request::Other { unique: 9, bytes: 45 });
        for operation in [FORGET, BATCH_FORGET] {
            assert_eq!(Request::parse(&request(operation, 9, 1, &[0; 8])), Some(Request::Statement));
        }
        assert_eq!(Request::parse(&[0; CELL_BYTES]), None);
        assert_eq!(Request::parse(&request(READ, 9, 1, &[0; 19])), None);
    }

    proptest! {
        /// What lies in a cell may be anything.
        #[test]
        fn any_bytes_are_a_request_or_none(
            cell in prop::collection::vec(any::<u8>(), 0..CELL_BYTES),
            len in prop_oneof![any::<u32>(), 0u32..600],
            operation in 0u32..50,
        ) {
            let mut cell = cell;
            for (at, word) in [(0, len), (4, operation)] {
                if let Some(place) = cell.get_mut(at..at + 4) {
                    place.copy_from_slice(&word.to_ne_bytes());
                }
            }
            match Request::parse(&cell) {
                Some(_) => prop_assert!(len as usize >= HEADER_BYTES && cell.len() >= HEADER_BYTES),
                None => prop_assert!(len < 80 || cell.len() < 80),
            }
        }
    }
}
