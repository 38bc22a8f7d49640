//! Why a mount is refused, in the words that reach the pod's events.

use super::Pod;

/// A mount is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kubelet does not say for which pod it asks.
    #[error(
        "the kubelet does not say which pod this is for: the CSIDriver object csi.granary.dev must have podInfoOnMount: true"
    )]
    PodUnknown,
    /// The pod's own namespace has no such dataset.
    #[error("namespace '{namespace}' has no Dataset '{dataset}'")]
    NotFound {
        /// The pod's namespace.
        namespace: String,
        /// The name.
        dataset: String,
    },
    /// Nobody has granted it, or there is nothing to grant: to another namespace both look the same.
    #[error(
        "Dataset '{namespace}/{dataset}' does not exist or is not granted to service account '{service_account}' of namespace \
         '{pod_namespace}': its owner can grant it by a DatasetGrant in namespace '{namespace}' with datasetRef {{name: {dataset}}} and \
         subject {{kind: ServiceAccount, name: {service_account}, namespace: {pod_namespace}}} or {{kind: Namespace, name: {pod_namespace}}}"
    )]
    NotGranted {
        /// Namespace of the dataset.
        namespace: String,
        /// Its name.
        dataset: String,
        /// The pod's namespace.
        pod_namespace: String,
        /// The pod's service account.
        service_account: String,
    },
    /// The grant's time is over.
    #[error(
        "DatasetGrant '{namespace}/{grant}' for Dataset '{dataset}' expired at {at}: its owner can set a later expirationTime"
    )]
    Expired {
        /// Namespace of grant and dataset.
        namespace: String,
        /// The dataset.
        dataset: String,
        /// The grant.
        grant: String,
        /// When it expired, RFC 3339.
        at: String,
    },
    /// The grant has a condition that this node cannot check.
    #[error(
        "DatasetGrant '{namespace}/{grant}' for Dataset '{dataset}' has the restriction '{restriction}', which Granary on this node does \
         not know: upgrade Granary, or ask the owner for a grant without it"
    )]
    Restricted {
        /// Namespace of grant and dataset.
        namespace: String,
        /// The dataset.
        dataset: String,
        /// The grant.
        grant: String,
        /// The restriction's type.
        restriction: String,
    },
    /// The volume was made for another dataset of the same name.
    #[error(
        "Dataset '{namespace}/{dataset}' is not the one this volume was made for: it was deleted and created again; delete the claim and \
         create it again"
    )]
    Recreated {
        /// Namespace of the dataset.
        namespace: String,
        /// Its name.
        dataset: String,
    },
    /// The dataset is being deleted.
    #[error("Dataset '{namespace}/{dataset}' is being deleted: it takes no new pods")]
    Deleting {
        /// Namespace of the dataset.
        namespace: String,
        /// Its name.
        dataset: String,
    },
    /// An inline volume of a dataset with a Secret.
    #[error(
        "an inline volume cannot be used for a Dataset with credentials: use a claim, persistentVolumeClaim: {{claimName: {claim}}}"
    )]
    NeedsClaim {
        /// The claim.
        claim: String,
    },
}

impl Refusal {
    pub(super) fn not_granted(namespace: &str, dataset: &str, pod: &Pod) -> Self {
        Self::NotGranted {
            namespace: namespace.to_owned(),
            dataset: dataset.to_owned(),
            pod_namespace: pod.namespace.clone(),
            service_account: pod.service_account.clone(),
        }
    }
}
