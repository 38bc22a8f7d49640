//! From errors to gRPC codes. The kubelet repeats a failed publish whatever its code is; the code is for people and for the suites that
//! test drivers. Messages reach the pod's events.

use tonic::{Code, Status};

use crate::access::Refusal;
use crate::grpc::node::UnpublishError;
use crate::mounter::MountError;
use crate::publish::PublishError;

impl From<PublishError> for Status {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            // The caller is wrong, and the same call will be wrong again.
            PublishError::NoVolumeId
            | PublishError::NoTarget
            | PublishError::Capability(_)
            | PublishError::Attributes(_) => Code::InvalidArgument,
            // The specification's code for a second call while the first is under way.
            PublishError::InFlight => Code::Aborted,
            PublishError::Refused(refusal) => refused(refusal),
            // Nothing is known about the dataset, or nothing recent enough: the API server did not answer.
            PublishError::Cluster(_) => Code::Unavailable,
            PublishError::VersionNotFound { .. } => Code::NotFound,
            // Something else must be done first: by the operator, by an administrator, or by the owner of the Secret.
            PublishError::Unsupported(_)
            | PublishError::NoVersion { .. }
            | PublishError::ClassNotFound(_)
            | PublishError::NoSecret { .. } => Code::FailedPrecondition,
            PublishError::Mount(error) => mount(error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<UnpublishError> for Status {
    fn from(error: UnpublishError) -> Self {
        let code = match &error {
            UnpublishError::NoVolumeId | UnpublishError::NoTarget => Code::InvalidArgument,
            UnpublishError::InFlight => Code::Aborted,
            UnpublishError::Mount(error) => mount(error),
        };
        Self::new(code, error.to_string())
    }
}

fn refused(refusal: &Refusal) -> Code {
    match refusal {
        // Only for the pod's own namespace, which may know what it has.
        Refusal::NotFound { .. } => Code::NotFound,
        Refusal::PodUnknown
        | Refusal::NotGranted { .. }
        | Refusal::Expired { .. }
        | Refusal::Restricted { .. }
        | Refusal::Recreated { .. }
        | Refusal::Deleting { .. }
        | Refusal::NeedsClaim { .. } => Code::PermissionDenied,
    }
}

fn mount(error: &MountError) -> Code {
    match error {
        // Another kernel, or another release of Granary, is needed first.
        MountError::Unsupported(_) | MountError::Invalid(_) => Code::FailedPrecondition,
        // The operator's image store, or the disk, may be there again at the next call.
        MountError::Artifact(_) | MountError::Cache(_) => Code::Unavailable,
        MountError::Failed(_) => Code::Internal,
    }
}
