//! What a volume asks for, read from the volume context of a publish request. It only names things: who may have them, and what they
//! are, is looked up.

use std::collections::HashMap;

use granary_crds::names::{ATTRIBUTE_DATASET, ATTRIBUTE_NAMESPACE, ATTRIBUTE_UID, ATTRIBUTE_VERSION, DATASET_NAME_MAX};

use crate::access::Pod;

/// Prefix of what the kubelet adds. It overwrites what the author of a volume wrote under the same key.
const KUBELET_PREFIX: &str = "csi.storage.k8s.io/";
const POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const POD_SERVICE_ACCOUNT: &str = "csi.storage.k8s.io/serviceAccount.name";
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// What a volume asks for, and for which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRequest {
    /// Kind of the volume, with the dataset that it names.
    pub volume: Volume,
    /// A fixed version; none: the dataset's current one.
    pub version: Option<VersionName>,
    /// The pod, as the kubelet reports it; none if it does not.
    pub pod: Option<Pod>,
}

/// Kind of a volume, with the dataset that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// A persistent volume, made by the operator (or by somebody who hopes to pass for it).
    Persistent {
        /// Namespace of the dataset.
        namespace: String,
        /// Its name.
        dataset: String,
        /// Its UID when the volume was made.
        uid: String,
    },
    /// An inline volume of a pod.
    Ephemeral {
        /// Name of a dataset of the pod's namespace.
        dataset: String,
    },
}

/// How a volume names a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionName {
    /// By the name of a DatasetVersion.
    Name(String),
    /// By its listing's digest.
    Digest(String),
}

/// The attributes do not name a dataset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// A persistent volume that the operator cannot have made.
    #[error("the volume has no attribute '{0}': volumes of {driver} are made by the operator; write a claim, not a PersistentVolume", driver = granary_crds::names::CSI_DRIVER)]
    Missing(&'static str),
    /// An inline volume without a dataset.
    #[error(
        "the volume has no attribute 'dataset': write volumeAttributes: {{dataset: <name of a Dataset of this namespace>}}"
    )]
    NoDataset,
    /// A value that cannot be a name of its kind.
    #[error("the volume's attribute '{key}' is '{value}': it must be {expected}")]
    Invalid {
        /// The attribute.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// An inline volume says more than it may.
    #[error(
        "an inline volume has only the attributes 'dataset' and 'version', not '{0}': for a dataset of another namespace use a claim \
         with the annotation granary.dev/dataset: <namespace>/<name>"
    )]
    Extra(String),
}

impl VolumeRequest {
    /// Reads the volume context of a publish request.
    pub fn parse(context: &HashMap<String, String>) -> Result<Self, AttributeError> {
        let version = context.get(ATTRIBUTE_VERSION).map(|text| version(text)).transpose()?;
        Ok(Self { volume: volume(context)?, version, pod: pod(context) })
    }
}

/// Whether this is an inline volume of a pod. The kubelet says so of every volume when it reports pods.
pub fn is_ephemeral(context: &HashMap<String, String>) -> bool {
    context.get(EPHEMERAL).is_some_and(|value| value == "true")
}

fn volume(context: &HashMap<String, String>) -> Result<Volume, AttributeError> {
    if is_ephemeral(context) {
        let known = |key: &str| key == ATTRIBUTE_DATASET || key == ATTRIBUTE_VERSION || key.starts_with(KUBELET_PREFIX);
        let mut extra: Vec<&String> = context.keys().filter(|key| !known(key)).collect();
        extra.sort();
        if let Some(key) = extra.first() {
            return Err(AttributeError::Extra((*key).clone()));
        }
        let dataset = context.get(ATTRIBUTE_DATASET).ok_or(AttributeError::NoDataset)?;
        return Ok(Volume::Ephemeral { dataset: dataset_name(dataset)? });
    }
    let required = |key| context.get(key).ok_or(AttributeError::Missing(key));
    Ok(Volume::Persistent {
        namespace: label(ATTRIBUTE_NAMESPACE, required(ATTRIBUTE_NAMESPACE)?)?,
        dataset: dataset_name(required(ATTRIBUTE_DATASET)?)?,
        uid: uid(required(ATTRIBUTE_UID)?)?,
    })
}

fn pod(context: &HashMap<String, String>) -> Option<Pod> {
    let field = |key| context.get(key).filter(|value| !value.is_empty()).cloned();
    // Without this key the kubelet reports no pods, and the others would be the author's own.
    context.get(EPHEMERAL)?;
    Some(Pod { namespace: field(POD_NAMESPACE)?, service_account: field(POD_SERVICE_ACCOUNT)? })
}

// Names become parts of request paths, so nothing but a name may pass.

fn dataset_name(value: &str) -> Result<String, AttributeError> {
    if value.len() > DATASET_NAME_MAX {
        return invalid(ATTRIBUTE_DATASET, value, "the name of a Dataset, of at most 52 characters");
    }
    label(ATTRIBUTE_DATASET, value)
}

fn label(key: &'static str, value: &str) -> Result<String, AttributeError> {
    if is_label(value) { Ok(value.to_owned()) } else { invalid(key, value, "lower-case letters, digits and '-'") }
}

fn uid(value: &str) -> Result<String, AttributeError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=63).contains(&value.len()) && value.bytes().all(plain) {
        Ok(value.to_owned())
    } else {
        invalid(ATTRIBUTE_UID, value, "the UID of a Dataset")
    }
}

fn version(value: &str) -> Result<VersionName, AttributeError> {
    if let Some(hex) = value.strip_prefix("sha256:")
        && hex.len() == 64
        && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Ok(VersionName::Digest(value.to_owned()));
    }
    if is_label(value) {
        return Ok(VersionName::Name(value.to_owned()));
    }
    invalid(ATTRIBUTE_VERSION, value, "the name of a DatasetVersion or its listingDigest, sha256:<64 hex digits>")
}

fn is_label(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&value.len()) && value.bytes().all(inner) && !value.starts_with('-') && !value.ends_with('-')
}

fn invalid<T>(key: &'static str, value: &str, expected: &'static str) -> Result<T, AttributeError> {
    // The value ends up in an event: a long one says no more than its beginning.
    Err(AttributeError::Invalid { key, value: value.chars().take(80).collect(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    const PERSISTENT: [(&str, &str); 6] = [
        ("dataset", "imagenet"),
        ("namespace", "vision"),
        ("uid", "8d6ad1d4-0000-4000-8000-000000000000"),
        ("csi.storage.k8s.io/pod.namespace", "team-b"),
        ("csi.storage.k8s.io/serviceAccount.name", "trainer"),
        ("csi.storage.k8s.io/ephemeral", "false"),
    ];

    fn with(changes: &[(&str, &str)]) -> Result<VolumeRequest, AttributeError> {
        let mut all = context(&PERSISTENT);
        all.extend(context(changes));
        VolumeRequest::parse(&all)
    }

    #[test]
    fn reads_a_persistent_volume() {
        let request =
            with(&[("version", "imagenet-0123456789"), ("storage.kubernetes.io/csiProvisionerIdentity", "x")]).unwrap();
        assert_eq!(
            request.volume,
            Volume::Persistent {
                namespace: "vision".into(),
                dataset: "imagenet".into(),
                uid: "8d6ad1d4-0000-4000-8000-000000000000".into()
            }
        );
        assert_eq!(request.version, Some(VersionName::Name("imagenet-0123456789".into())));
        assert_eq!(request.pod, Some(Pod { namespace: "team-b".into(), service_account: "trainer".into() }));
    }

    #[test]
    fn a_volume_without_uid_is_not_the_operators() {
        let mut all = context(&PERSISTENT);
        all.remove("uid");
        assert_eq!(VolumeRequest::parse(&all), Err(AttributeError::Missing("uid")));
    }

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        for (key, value) in [
            ("dataset", "../secrets/x"),
            ("dataset", ""),
            ("namespace", "a/b"),
            ("namespace", "kube-system/../x"),
            ("uid", "a b"),
            ("version", "sha256:../../"),
            ("version", "Ümlaut"),
            ("version", ""),
        ] {
            assert!(matches!(with(&[(key, value)]), Err(AttributeError::Invalid { .. })), "{key}={value}");
        }
    }

    #[test]
    fn an_inline_volume_says_only_what() {
        let inline = |extra: &[(&str, &str)]| {
            let mut all = context(&PERSISTENT[3..]);
            all.extend(context(&[("csi.storage.k8s.io/ephemeral", "true"), ("dataset", "public")]));
            all.extend(context(extra));
            VolumeRequest::parse(&all)
        };
        assert_eq!(inline(&[]).unwrap().volume, Volume::Ephemeral { dataset: "public".into() });
        for key in ["namespace", "uid", "secret", "storage.kubernetes.io/csiProvisionerIdentity"] {
            assert_eq!(inline(&[(key, "vision")]), Err(AttributeError::Extra(key.into())));
        }
    }

    #[test]
    fn pods_count_only_when_the_kubelet_reports_them() {
        let mut all = context(&PERSISTENT);
        all.remove("csi.storage.k8s.io/ephemeral");
        assert_eq!(VolumeRequest::parse(&all).unwrap().pod, None);
        assert_eq!(with(&[("csi.storage.k8s.io/serviceAccount.name", "")]).unwrap().pod, None);
    }
}
