//! Why the pod of an index Job does not start.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::reconcile::{Context, ReconcileError};

/// How long a pod may take to appear and start without a word.
const PATIENCE: SignedDuration = SignedDuration::from_secs(15);

/// What holds up the pod of a Job that is under way; none if nothing does, or if it is too early to say.
pub async fn problem(context: &Context, job: &Job) -> Result<Option<String>, ReconcileError> {
    let created = job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    if Timestamp::now().duration_since(created) < PATIENCE {
        return Ok(None);
    }
    let namespace = job.namespace().unwrap_or_default();
    let api = Api::<Pod>::namespaced(context.client.clone(), &namespace);
    let selector = format!("batch.kubernetes.io/job-name={}", job.name_any());
    let pods = api.list(&ListParams::default().labels(&selector)).await.map_err(ReconcileError::api("list pods"))?;
    if pods.items.is_empty() {
        let name = job.name_any();
        return Ok(Some(format!("no pod could be made: see 'kubectl describe job -n {namespace} {name}'")));
    }
    Ok(pods.items.iter().find_map(held_up))
}

fn held_up(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .find(|waiting| !matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing")));
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let (reason, message) = match (waiting, unscheduled) {
        (Some(waiting), _) => (waiting.reason.clone(), waiting.message.clone()),
        (None, Some(condition)) => (condition.reason.clone(), condition.message.clone()),
        (None, None) => return None,
    };
    let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
    Some(format!("pod {} of the index Job does not start: {reason}: {message}", pod.name_any()))
}

#[cfg(test)]
mod tests {
    use super::held_up;
    use serde_json::json;

    #[test]
    fn says_what_kubernetes_says() {
        let pod = |status| serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
        let pull = json!({"containerStatuses": [{"name": "index", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
        assert!(held_up(&pod(pull)).unwrap().contains("ImagePullBackOff: no such image"));
        let full = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no memory"}]});
        assert!(held_up(&pod(full)).unwrap().contains("Unschedulable: no memory"));
        let fine = json!({"containerStatuses": [{"name": "index", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "ContainerCreating"}}}]});
        assert_eq!(held_up(&pod(fine)), None);
    }
}
