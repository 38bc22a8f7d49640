//! What a blob's directory says of the dataset that the blob is of.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BlobTag;
use crate::disk::{self, CacheFile};

const FILE: &str = "meta.json";
const NEW: &str = "meta.json.new";
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    format: u32,
    /// Of the tag's JSON.
    crc32c: u32,
    tag: BlobTag,
}

/// The tag of the blob in `dir`; none if nothing there says so soundly.
pub(super) fn read(dir: &Path) -> Option<BlobTag> {
    let path = dir.join(FILE);
    let bytes = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        // Nothing that can be trusted.
        read => read.unwrap_or_default(),
    };
    let tag = parse(&bytes);
    if tag.is_none() {
        tracing::warn!(path = %path.display(), "the description of a blob is damaged or of another format: leaving it out");
    }
    tag
}

fn parse(bytes: &[u8]) -> Option<BlobTag> {
    let Description { format, crc32c, tag } = serde_json::from_slice(bytes).ok()?;
    (format == FORMAT && crc32c == crc(&tag).ok()?).then_some(tag)
}

fn crc(tag: &BlobTag) -> io::Result<u32> {
    Ok(crc32c::crc32c(&serde_json::to_vec(tag)?))
}

/// Writes the tag of the blob in `dir`. A crash leaves it, or the one before.
pub(super) fn write(dir: &Path, tag: &BlobTag) -> io::Result<()> {
    let description = Description { format: FORMAT, crc32c: crc(tag)?, tag: tag.clone() };
    let new = dir.join(NEW);
    let file = CacheFile::open(&new)?;
    file.set_len(0)?;
    file.write_all_at(&serde_json::to_vec(&description)?, 0)?;
    file.sync_data()?;
    disk::rename(&new, &dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logged::logged;

    #[test]
    fn what_is_not_sound_is_left_out() {
        let root = tempfile::tempdir().expect("temporary directory");
        assert_eq!(logged(|| assert_eq!(read(root.path()), None)), "");
        let tag = BlobTag { dataset_uid: "u".to_owned(), namespace: "vision".to_owned(), name: "set".to_owned() };
        write(root.path(), &tag).expect("write");
        assert_eq!(read(root.path()), Some(tag));
        let path = root.path().join(FILE);
        let sound = fs::read_to_string(&path).expect("read");
        let damaged = [
            sound.replace("vision", "visiom"),
            sound.replace("\"format\":1", "\"format\":2"),
            sound[..sound.len() - 4].to_owned(),
            String::new(),
            "\0".repeat(sound.len()),
            "{\"dataset_uid\":\"u\",\"namespace\":\"vision\",\"name\":\"set\"}".to_owned(),
        ];
        for text in damaged {
            fs::write(&path, &text).expect("write");
            let log = logged(|| assert_eq!(read(root.path()), None, "{text}"));
            assert!(log.contains("damaged"), "{text}: {log}");
        }
    }
}
