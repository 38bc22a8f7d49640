//! What the node's readiness and its NodeCache say about it.

use std::sync::Arc;

use granary_crds::conditions::reasons;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::grpc::registration::Registered;
use crate::mounter::Mounter;

/// Whether the node mounts datasets, from what each part of it knows.
#[derive(Clone)]
pub struct Health {
    mounter: Arc<dyn Mounter>,
    registered: watch::Receiver<Registered>,
    caches: watch::Receiver<Option<String>>,
}

/// Why the node does not mount datasets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A reason of the condition Ready of a NodeCache.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Health {
    /// Health of the node that mounts by `mounter`; `caches` is what is wrong with the caches of the classes.
    pub fn new(
        mounter: Arc<dyn Mounter>,
        registered: watch::Receiver<Registered>,
        caches: watch::Receiver<Option<String>>,
    ) -> Self {
        Self { mounter, registered, caches }
    }

    /// Trouble of the node itself, for its NodeCache.
    pub fn trouble(&self) -> Option<Trouble> {
        if let Err(message) = self.mounter.support() {
            return Some(Trouble { reason: reasons::KERNEL_UNSUPPORTED, message });
        }
        let message = self.caches.borrow().clone()?;
        Some(Trouble { reason: reasons::CACHE_UNAVAILABLE, message })
    }

    /// Why pods cannot use this node now, for the readiness probe.
    pub fn unready(&self) -> Option<String> {
        if let Some(trouble) = self.trouble() {
            return Some(format!("{}: {}", trouble.reason, trouble.message));
        }
        match &*self.registered.borrow() {
            Registered::Yes => None,
            Registered::Waiting => Some("the kubelet has not registered the driver yet".to_owned()),
            Registered::No(error) => Some(format!("the kubelet refused to register the driver: {error}")),
        }
    }
}

/// Says in an event what the kernel lacks, if anything.
pub async fn tell_of_kernel(cluster: &dyn Cluster, mounter: &dyn Mounter) {
    let Err(why) = mounter.support() else { return };
    tracing::error!("{why}");
    if let Err(error) = cluster.warn(reasons::KERNEL_UNSUPPORTED, &why).await {
        tracing::warn!("{error}");
    }
}

/// Says in an event that readers of these versions may have got errors, if there are any.
pub async fn tell_of_interruption(cluster: &dyn Cluster, versions: &[String]) {
    let Some(note) = interruption(versions) else { return };
    tracing::warn!("{note}");
    if let Err(error) = cluster.warn(reasons::READS_INTERRUPTED, &note).await {
        tracing::warn!("{error}");
    }
}

fn interruption(versions: &[String]) -> Option<String> {
    /// The text of an event has room for a few.
    const NAMED: usize = 5;
    let count = versions.len();
    let named = versions.get(..count.min(NAMED)).filter(|named| !named.is_empty())?.join(", ");
    let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
    Some(format!(
        "the node process was away and no keeper held its place: until now, reads of {named}{more} may have failed with \
         Input/output error; see that a granary-keeper pod runs on this node"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_names_a_few_versions() {
        assert_eq!(interruption(&[]), None);
        let names = |count: usize| (0..count).map(|nth| format!("v{nth}")).collect::<Vec<_>>();
        let few = interruption(&names(2)).unwrap();
        assert!(few.contains("reads of v0, v1 may have failed"), "{few}");
        let many = interruption(&names(9)).unwrap();
        assert!(many.contains("v3, v4 and 4 more may"), "{many}");
    }
}
