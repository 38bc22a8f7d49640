//! Keys in memory that a successor can read: nowhere on a disk, and never half written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use granary_fetch::SecretKeys;
use rustix::fs::{MemfdFlags, SealFlags};

/// More than a Secret can have, in bytes.
const MOST_BYTES: u64 = 4 << 20;

/// Puts keys into memory that nobody can change any more.
pub(crate) fn seal(keys: &SecretKeys) -> io::Result<OwnedFd> {
    let pairs: BTreeMap<&str, &str> = keys.names().filter_map(|name| Some((name, keys.get(None, name)?))).collect();
    let mut memory =
        File::from(rustix::fs::memfd_create("granary-keys", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    memory.write_all(&serde_json::to_vec(&pairs)?)?;
    let seals = SealFlags::SEAL | SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}

/// Reads what a predecessor has sealed.
pub(crate) fn open(memory: OwnedFd) -> io::Result<SecretKeys> {
    let memory = File::from(memory);
    let len = memory.metadata()?.len();
    if len > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more than a Secret can have"));
    }
    // Not from where the file stands: that is shared with whoever read it before.
    let mut text = vec![0; len as usize];
    memory.read_exact_at(&mut text, 0)?;
    let keys: BTreeMap<String, String> = serde_json::from_slice(&text)?;
    Ok(keys.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_often_as_they_are_read() {
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let keys: SecretKeys = [("token", "a\"b\n"), ("labels.token", "")].map(pair).into_iter().collect();
        let memory = seal(&keys).unwrap();
        for _ in 0..2 {
            assert!(open(memory.try_clone().unwrap()).unwrap() == keys);
        }
        let write = File::from(memory).write_at(b"x", 0);
        assert_eq!(write.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn what_is_no_secret_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.write_at(b"[1]", 0).unwrap();
        assert!(open(file.into()).is_err());
    }
}
