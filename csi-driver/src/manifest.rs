//! From API objects to what the data plane is told.

use std::path::{Component, Path, PathBuf};

use granary_blob::{BlobTag, PoolConfig};
use granary_crds::dataset::{S3Addressing, S3Options, S3PinBy, Source, SourceIdentity};
use granary_crds::dataset_version::{ARTIFACT_EXTENTS, ARTIFACT_IMAGE, Artifact, DatasetVersionSpec, VersionSource};
use granary_crds::exchange::{MEDIA_TYPE_EXTENTS, MEDIA_TYPE_IMAGE};
use granary_crds::{DataStorageClass, data_storage_class, size};
use granary_fetch::{Addressing, HttpFile, HttpOptions, Identity, PinBy, SourceConfig, SourcePolicy};
use granary_image::Digest;
use granary_serve::VersionManifest;

use crate::access::secret_name;
use crate::mounter::Content;

/// An object says something that this release does not understand, or that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object} says {field}: {problem}")]
pub struct ManifestError {
    object: String,
    field: &'static str,
    problem: String,
}

/// What to mount.
pub fn version(content: &Content, file_roots: &[PathBuf]) -> Result<VersionManifest, ManifestError> {
    let spec = &content.version.spec;
    let name = content.version.metadata.name.clone().unwrap_or_default();
    let object = format!("DatasetVersion '{name}'");
    let (image, image_bytes) = artifact(spec, ARTIFACT_IMAGE, MEDIA_TYPE_IMAGE, &object)?;
    let (extents, extents_bytes) = artifact(spec, ARTIFACT_EXTENTS, MEDIA_TYPE_EXTENTS, &object)?;
    let has_secret = secret_name(&content.dataset).is_some();
    let sources = spec.sources.iter().map(|recorded| source(&as_written(recorded), has_secret, &object));
    let metadata = &content.dataset.metadata;
    Ok(VersionManifest {
        dataset: BlobTag {
            dataset_uid: metadata.uid.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        },
        version: name,
        image,
        image_bytes,
        extents,
        extents_bytes,
        blob_id: spec.blob.id.clone(),
        blob_bytes: unsigned(spec.blob.size_bytes, "blob.sizeBytes", &object)?,
        sources: sources.collect::<Result<_, _>>()?,
        pool: content.class.metadata.name.clone().unwrap_or_default(),
        policy: policy(&content.class.spec.source_policy, file_roots, &class_object(&content.class))?,
        // Of the Dataset as it is now, not of the version: it is no part of what the data is.
        preload: content.dataset.spec.preload,
    })
}

/// The cache of a class, below `root`.
pub fn pool(class: &DataStorageClass, root: &Path) -> Result<PoolConfig, ManifestError> {
    let cache = &class.spec.cache;
    let bad = |field, problem: String| ManifestError { object: class_object(class), field, problem };
    let below = cache.path.as_deref().or(class.metadata.name.as_deref()).unwrap_or_default();
    let plain = !below.is_empty() && Path::new(below).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain {
        return Err(bad("cache.path", format!("'{below}' is no directory below the cache root")));
    }
    let bytes = |field, quantity| size::bytes(quantity).map_err(|error| bad(field, error.to_string()));
    Ok(PoolConfig {
        dir: root.join(below),
        max_bytes: cache.max_size.as_ref().map(|quantity| bytes("cache.maxSize", quantity)).transpose()?,
        min_free_percent: u8::try_from(cache.min_free_percent)
            .map_err(|_| bad("cache.minFreePercent", cache.min_free_percent.to_string()))?,
        min_free_bytes: bytes("cache.minFree", &cache.min_free)?,
    })
}

/// What the sources of a class's Datasets may be. The roots count only where the class allows files.
pub fn policy(
    policy: &data_storage_class::SourcePolicy,
    file_roots: &[PathBuf],
    object: &str,
) -> Result<SourcePolicy, ManifestError> {
    let network = |text: &String| {
        let problem = |_| ManifestError {
            object: object.to_owned(),
            field: "sourcePolicy.allowedNetworks",
            problem: text.clone(),
        };
        text.parse().map_err(problem)
    };
    Ok(SourcePolicy {
        file_roots: if policy.file_sources.is_allowed() { file_roots.to_vec() } else { Vec::new() },
        ambient: policy.ambient_identity.is_allowed(),
        allowed_networks: policy.allowed_networks.iter().map(network).collect::<Result<_, _>>()?,
        allow_all_networks: false,
    })
}

/// A source as the data plane reads it. Without an identity of its own it is read with the Secret, if the Dataset has one.
pub fn source(source: &Source, has_secret: bool, object: &str) -> Result<SourceConfig, ManifestError> {
    let bad = |field, problem: &str| ManifestError { object: object.to_owned(), field, problem: problem.to_owned() };
    let unknown = "a value that this release of Granary does not know";
    let identity = match source.identity {
        None if has_secret => Identity::Secret,
        None | Some(SourceIdentity::Anonymous) => Identity::Anonymous,
        Some(SourceIdentity::Ambient) => Identity::Ambient,
        Some(SourceIdentity::Unknown) => return Err(bad("identity", unknown)),
    };
    let s3 = source.s3.clone().unwrap_or_default();
    let http = source.http.as_ref().map(|http| {
        let files = http.files.iter().map(|file| {
            let digest = file.digest.as_ref().map(|digest| digest.parse::<Digest>()).transpose();
            Ok(HttpFile { path: file.path.clone(), digest: digest.map_err(|error| bad("digest", &error.to_string()))? })
        });
        Ok(HttpOptions { files: files.collect::<Result<_, ManifestError>>()? })
    });
    Ok(SourceConfig {
        uri: source.uri.clone(),
        name: source.name.clone(),
        path: source.path.clone(),
        include: source.include.clone(),
        exclude: source.exclude.clone(),
        identity,
        s3: s3_options(s3).ok_or_else(|| bad("s3", unknown))?,
        http: http.transpose()?,
    })
}

fn s3_options(s3: S3Options) -> Option<granary_fetch::S3Options> {
    let addressing = match s3.addressing {
        None => None,
        Some(S3Addressing::Path) => Some(Addressing::Path),
        Some(S3Addressing::VirtualHost) => Some(Addressing::VirtualHost),
        Some(S3Addressing::Unknown) => return None,
    };
    let pin_by = match s3.pin_by {
        None | Some(S3PinBy::ETag) => PinBy::ETag,
        Some(S3PinBy::VersionID) => PinBy::VersionID,
        Some(S3PinBy::Unknown) => return None,
    };
    Some(granary_fetch::S3Options { endpoint: s3.endpoint, region: s3.region, addressing, pin_by })
}

fn as_written(recorded: &VersionSource) -> Source {
    Source {
        uri: recorded.uri.clone(),
        name: recorded.name.clone(),
        path: recorded.path.clone(),
        include: recorded.include.clone(),
        exclude: recorded.exclude.clone(),
        identity: recorded.identity,
        s3: recorded.s3.clone(),
        http: recorded.http.clone(),
    }
}

fn artifact(
    spec: &DatasetVersionSpec,
    name: &'static str,
    media_type: &str,
    object: &str,
) -> Result<(Digest, u64), ManifestError> {
    let bad = |problem: String| ManifestError { object: object.to_owned(), field: name, problem };
    let Artifact { media_type: found, digest, size_bytes, .. } =
        spec.artifact(name).ok_or_else(|| bad("nothing".to_owned()))?;
    if found != media_type {
        return Err(bad(format!(
            "it is a '{found}', and this release of Granary reads '{media_type}': upgrade Granary"
        )));
    }
    Ok((digest.parse().map_err(|error| bad(format!("{error}")))?, unsigned(*size_bytes, name, object)?))
}

fn unsigned(bytes: i64, field: &'static str, object: &str) -> Result<u64, ManifestError> {
    u64::try_from(bytes).map_err(|_| ManifestError { object: object.to_owned(), field, problem: bytes.to_string() })
}

fn class_object(class: &DataStorageClass) -> String {
    format!("DataStorageClass '{}'", class.metadata.name.as_deref().unwrap_or_default())
}
