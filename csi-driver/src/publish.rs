//! From a publish request to a mount: what is named, who may have it, which version of it, then the mount.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use granary_crds::conditions::types;
use granary_crds::names::version_name;
use granary_crds::{DataStorageClass, Dataset, DatasetVersion, Time};

use crate::access::{self, Refusal};
use crate::attributes::{AttributeError, VersionName, Volume, VolumeRequest, is_ephemeral};
use crate::capability::{self, CapabilityError};
use crate::cluster::{Cluster, ClusterError};
use crate::mounter::{Content, MountError, Mounter, Secret};
use crate::proto::csi::VolumeCapability;

/// A publish request with volume id and target checked.
pub struct PublishRequest<'a> {
    /// Id of the volume.
    pub volume_id: &'a str,
    /// Where the pod expects it.
    pub target: &'a Path,
    /// What the volume is asked to be.
    pub capability: Option<&'a VolumeCapability>,
    /// What the volume names, and for which pod.
    pub context: &'a HashMap<String, String>,
    /// Contents of the volume's Secret.
    pub secret: Secret,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The request names no volume.
    #[error("the request has no volume id")]
    NoVolumeId,
    /// The request names no target, or one that is no absolute path.
    #[error("the request's target must be an absolute path")]
    NoTarget,
    /// Another request for this target is being worked on.
    #[error("another request for this volume and pod is under way")]
    InFlight,
    /// The volume is asked for as what it is not.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// The volume does not name a dataset.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
    /// The kernel lacks something.
    #[error("this node cannot mount datasets: {0}")]
    Unsupported(String),
    /// The pod may not have it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The API server could not be asked, and what it said before is not to be relied on.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is nothing to mount yet.
    #[error("Dataset '{dataset}' has no version yet: {why}")]
    NoVersion {
        /// `namespace/name`
        dataset: String,
        /// What its condition Ready says.
        why: String,
    },
    /// There is no such version, or it is another dataset's.
    #[error(
        "Dataset '{dataset}' has no version '{version}' (any more): kubectl get datasetversions shows which it has"
    )]
    VersionNotFound {
        /// `namespace/name`
        dataset: String,
        /// Name or digest.
        version: String,
    },
    /// There is no such class.
    #[error("there is no DataStorageClass '{0}': the cluster's administrator can create it")]
    ClassNotFound(String),
    /// The volume does not bring the dataset's keys.
    #[error(
        "the volume brings no keys, but Dataset '{dataset}' reads its sources with the Secret '{secret}': the Secret must have keys, and \
         the volume must be a claim that Granary has bound"
    )]
    NoSecret {
        /// `namespace/name`
        dataset: String,
        /// Name of the Secret.
        secret: String,
    },
    /// It could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Publishes datasets to pods.
pub struct Publisher {
    cluster: Arc<dyn Cluster>,
    mounter: Arc<dyn Mounter>,
}

impl Publisher {
    /// Decides by `cluster`, mounts by `mounter`.
    pub fn new(cluster: Arc<dyn Cluster>, mounter: Arc<dyn Mounter>) -> Self {
        Self { cluster, mounter }
    }

    /// Publishes a dataset, or brings new keys to one that is published.
    ///
    /// The kubelet repeats its request about every minute while the pod runs, and takes away the directory of a running pod if that
    /// fails: so a repetition succeeds, whatever has changed since.
    pub async fn publish(&self, request: PublishRequest<'_>) -> Result<(), PublishError> {
        if self.mounter.is_published(request.target) {
            // The Secret of an inline volume is the pod author's: it could get its keys after the pod has started.
            if !is_ephemeral(request.context) && !request.secret.0.is_empty() {
                self.mounter.refresh_secret(request.volume_id, request.secret);
            }
            return Ok(());
        }
        self.mounter.support().map_err(PublishError::Unsupported)?;
        capability::check(request.capability, is_ephemeral(request.context))?;
        let volume = VolumeRequest::parse(request.context)?;
        let content = self.content(&volume, request.secret).await?;
        tracing::info!(
            volume_id = request.volume_id,
            dataset = qualified(&content.dataset),
            version = content.version.metadata.name,
            "publishing"
        );
        Ok(self.mounter.publish(request.volume_id, request.target, content).await?)
    }

    async fn content(&self, request: &VolumeRequest, secret: Secret) -> Result<Content, PublishError> {
        let dataset = self.allowed(request).await?;
        let secret = keys(&dataset, &request.volume, secret)?;
        let version = self.version(&dataset, request.version.as_ref()).await?;
        let class = self.class(&dataset.spec.storage_class_name).await?;
        Ok(Content { dataset, version, class, secret })
    }

    async fn allowed(&self, request: &VolumeRequest) -> Result<Dataset, PublishError> {
        let pod = request.pod.as_ref().ok_or(Refusal::PodUnknown)?;
        let namespace = access::dataset_namespace(&request.volume, &pod.namespace);
        let (Volume::Persistent { dataset: name, .. } | Volume::Ephemeral { dataset: name }) = &request.volume;
        let grants = if namespace == pod.namespace { Vec::new() } else { self.cluster.grants(namespace).await? };
        let dataset = self.cluster.dataset(namespace, name).await?;
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        access::decide(&request.volume, dataset.as_ref(), &grants, Some(pod), now)?;
        Ok(dataset.ok_or_else(|| Refusal::NotFound { namespace: namespace.to_owned(), dataset: name.clone() })?)
    }

    async fn version(&self, dataset: &Dataset, fixed: Option<&VersionName>) -> Result<DatasetVersion, PublishError> {
        let namespace = dataset.metadata.namespace.as_deref().unwrap_or_default();
        let (found, wanted) = match fixed {
            Some(VersionName::Digest(digest)) => (self.by_digest(namespace, dataset, digest).await?, digest.clone()),
            Some(VersionName::Name(name)) => (self.cluster.version(namespace, name).await?, name.clone()),
            None => {
                let name = current(dataset)?;
                (self.cluster.version(namespace, &name).await?, name)
            }
        };
        found
            .filter(|version| is_version_of(version, dataset))
            .ok_or_else(|| PublishError::VersionNotFound { dataset: qualified(dataset), version: wanted })
    }

    /// The newest version with this listing; there are several when an extent table was lost.
    async fn by_digest(
        &self,
        namespace: &str,
        dataset: &Dataset,
        digest: &str,
    ) -> Result<Option<DatasetVersion>, ClusterError> {
        let name = dataset.metadata.name.as_deref().unwrap_or_default();
        let versions = self.cluster.versions(namespace, name).await?;
        let same = versions
            .into_iter()
            .filter(|version| version.spec.listing_digest == digest && is_version_of(version, dataset));
        Ok(same.max_by_key(|version| version.spec.revision))
    }

    async fn class(&self, name: &str) -> Result<DataStorageClass, PublishError> {
        self.cluster.class(name).await?.ok_or_else(|| PublishError::ClassNotFound(name.to_owned()))
    }
}

/// The keys that go with the mount. What a volume brings counts only where the dataset names a Secret.
fn keys(dataset: &Dataset, volume: &Volume, secret: Secret) -> Result<Option<Secret>, PublishError> {
    match (access::secret_name(dataset), volume) {
        (None, _) | (_, Volume::Ephemeral { .. }) => Ok(None),
        (Some(name), Volume::Persistent { .. }) if secret.0.is_empty() => {
            Err(PublishError::NoSecret { dataset: qualified(dataset), secret: name.to_owned() })
        }
        (Some(_), Volume::Persistent { .. }) => Ok(Some(secret)),
    }
}

/// Name of the version that a pod gets which starts now.
fn current(dataset: &Dataset) -> Result<String, PublishError> {
    let status = dataset.status.as_ref();
    if let Some(version) = status.and_then(|status| status.current_version.as_ref()) {
        return Ok(version.name.clone());
    }
    let ready = status.and_then(|status| status.conditions.iter().find(|condition| condition.type_ == types::READY));
    let why = ready
        .map_or_else(|| "it has just been created".to_owned(), |ready| format!("{}: {}", ready.reason, ready.message));
    Err(PublishError::NoVersion { dataset: qualified(dataset), why })
}

/// Whether `version` is this very dataset's: by its owner's UID, and by a name that nobody else's version can have.
fn is_version_of(version: &DatasetVersion, dataset: &Dataset) -> bool {
    let name = dataset.metadata.name.as_deref().unwrap_or_default();
    let owned = version
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| Some(&owner.uid) == dataset.metadata.uid.as_ref());
    let expected = version_name(name, &version.spec.blob.id, &version.spec.listing_digest);
    owned && version.spec.dataset_name == name && version.metadata.name.as_deref() == Some(&expected)
}

fn qualified(dataset: &Dataset) -> String {
    let (namespace, name) = (dataset.metadata.namespace.as_deref(), dataset.metadata.name.as_deref());
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}
