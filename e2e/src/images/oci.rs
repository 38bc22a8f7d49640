//! Container images as OCI image layouts in a tar (OCI image specification 1.1): `oci-layout`, `index.json`, and blobs
//! named by their digests. Layers are not compressed, since they only travel to a socket of the same machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::paths::write_atomically;

/// One file of a layer.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A directory.
    Directory {
        /// Path without a leading slash.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// A file with these bytes.
    File {
        /// Path without a leading slash.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// A symbolic link.
    Link {
        /// Path without a leading slash.
        path: String,
        /// What it points to.
        target: String,
    },
}

/// A layer: a tar of files.
#[derive(Debug, Clone, Default)]
pub struct Layer(pub Vec<Entry>);

/// How a container of the image starts.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// `uid:gid`, or empty for root.
    pub user: String,
    /// `NAME=value`.
    pub environment: Vec<String>,
}

/// An image and its name.
#[derive(Debug, Clone)]
pub struct Image {
    /// Registry, repository and tag.
    pub reference: String,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// How it starts.
    pub config: Config,
}

struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Image {
    /// Writes the OCI layout as a tar. The same image gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, self.to_tar()?).with_context(|| format!("writing the image {}", self.reference))
    }

    /// A file name made of the reference.
    pub fn file_name(&self) -> String {
        self.reference.replace(['/', ':'], "-")
    }

    /// The OCI layout as a tar.
    pub fn to_tar(&self) -> Result<Vec<u8>> {
        let layers: Vec<Blob> =
            self.layers.iter().map(|layer| Ok(Blob::new(layer.to_tar()?))).collect::<Result<_>>()?;
        let config = Blob::new(serde_json::to_vec(&self.config_json(&layers))?);
        let manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(|layer| layer.descriptor("application/vnd.oci.image.layer.v1.tar")).collect::<Vec<_>>(),
        }))?);
        let mut in_index = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        in_index["annotations"] = json!({"io.containerd.image.name": self.reference});
        let index = json!({"schemaVersion": 2, "manifests": [in_index]});
        let mut files = vec![
            Entry::file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            Entry::file("index.json", 0o644, serde_json::to_vec(&index)?),
        ];
        for blob in layers.into_iter().chain([config, manifest]) {
            let path = format!("blobs/sha256/{}", blob.digest);
            files.push(Entry::File { path, mode: 0o644, bytes: blob.bytes });
        }
        Layer(files).to_tar()
    }

    fn config_json(&self, layers: &[Blob]) -> Value {
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.config.entrypoint,
                "User": self.config.user,
                "Env": self.config.environment,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect::<Vec<_>>(),
            },
        })
    }
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = hex::encode(Sha256::digest(&bytes));
        Self { bytes, digest }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

impl Entry {
    /// A file.
    pub fn file(path: impl Into<String>, mode: u32, bytes: Vec<u8>) -> Self {
        Self::File { path: path.into(), mode, bytes }
    }

    /// A file with the bytes of one of this machine.
    pub fn copy(path: impl Into<String>, mode: u32, from: &Path) -> Result<Self> {
        let bytes = std::fs::read(from).with_context(|| format!("reading {} for an image", from.display()))?;
        Ok(Self::file(path, mode, bytes))
    }

    fn path(&self) -> &str {
        match self {
            Self::Directory { path, .. } | Self::File { path, .. } | Self::Link { path, .. } => path,
        }
    }
}

impl Layer {
    /// The tar, with the directories that the entries need and no time in it.
    fn to_tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut made: Vec<PathBuf> = Vec::new();
        for entry in &self.0 {
            let parents: Vec<&Path> =
                Path::new(entry.path()).ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
            for parent in parents.into_iter().rev() {
                if !made.iter().any(|path| path == parent) {
                    append_directory(&mut tar, parent, 0o755)?;
                    made.push(parent.to_owned());
                }
            }
            append(&mut tar, entry).with_context(|| format!("adding {} to a layer", entry.path()))?;
            if let Entry::Directory { path, .. } = entry {
                made.push(path.into());
            }
        }
        Ok(tar.into_inner()?)
    }
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append_directory(tar: &mut tar::Builder<impl Write>, path: &Path, mode: u32) -> Result<()> {
    tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), path, std::io::empty())?;
    Ok(())
}

fn append(tar: &mut tar::Builder<impl Write>, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Directory { path, mode } => append_directory(tar, Path::new(path), *mode)?,
        Entry::File { path, mode, bytes } => {
            tar.append_data(&mut header(tar::EntryType::Regular, *mode, bytes.len()), path, bytes.as_slice())?;
        }
        Entry::Link { path, target } => {
            tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target)?
        }
    }
    Ok(())
}

/// The machine's architecture by the name that images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn image() -> Image {
        let layer = Layer(vec![
            Entry::file("usr/bin/x", 0o755, b"program".to_vec()),
            Entry::Link { path: "usr/bin/y".into(), target: "x".into() },
            Entry::Directory { path: "tmp".into(), mode: 0o1777 },
        ]);
        let config = Config { entrypoint: vec!["/usr/bin/x".into()], user: "65532:65532".into(), environment: vec![] };
        Image { reference: "example.test/x:1".into(), layers: vec![layer], config }
    }

    fn files(tar: &[u8]) -> BTreeMap<String, (tar::EntryType, u32, Vec<u8>)> {
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
            (path, (entry.header().entry_type(), entry.header().mode().unwrap(), bytes))
        };
        tar::Archive::new(tar).entries().unwrap().map(read).collect()
    }

    fn blob<'a>(files: &'a BTreeMap<String, (tar::EntryType, u32, Vec<u8>)>, descriptor: &Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = &files[&format!("blobs/sha256/{digest}")].2;
        assert_eq!(descriptor["size"], bytes.len());
        assert_eq!(hex::encode(Sha256::digest(bytes)), digest);
        bytes
    }

    #[test]
    fn every_descriptor_leads_to_its_blob() {
        let files = files(&image().to_tar().unwrap());
        let index: Value = serde_json::from_slice(&files["index.json"].2).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "example.test/x:1");
        let manifest: Value = serde_json::from_slice(blob(&files, entry)).unwrap();
        let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["config"]["User"], "65532:65532");
        blob(&files, &manifest["layers"][0]);
    }

    #[test]
    fn a_layer_has_the_directories_of_its_files_once() {
        let layer = image().layers[0].to_tar().unwrap();
        let count = tar::Archive::new(layer.as_slice()).entries().unwrap().count();
        let files = files(&layer);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["tmp", "usr", "usr/bin", "usr/bin/x", "usr/bin/y"]);
        assert_eq!(count, files.len());
        assert_eq!(files["tmp"].1, 0o1777);
        assert_eq!(files["usr/bin/y"].0, tar::EntryType::Symlink);
    }

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        assert_eq!(image().to_tar().unwrap(), image().to_tar().unwrap());
    }
}
