//! Takes, renews and gives back the Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use super::sighting::Sighting;
use super::{DURATION, Fence, Verdict, evaluate};
use crate::names;

/// How often the Lease is renewed, and how often a waiting instance looks.
pub(crate) const PERIOD: Duration = Duration::from_secs(3);
/// A leader that could not renew for so long no longer leads: before another one may take the Lease, with time for a write on its way.
const RENEW_WITHIN: Duration = Duration::from_secs(10);

/// Why an instance does not lead (any more).
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another instance has taken the Lease.
    #[error("'{0}' has taken the Lease")]
    Taken(String),
    /// The API server did not take a renewal in time.
    #[error("the Lease was not renewed in time: {0}")]
    NotRenewed(kube::Error),
    /// The API server refuses.
    #[error("cannot write the Lease: {0}")]
    Api(#[from] kube::Error),
}

/// The Lease, for one instance.
pub struct Holder {
    api: Api<Lease>,
    me: String,
    sighting: Sighting,
    fence: Fence,
}

impl Holder {
    /// The Lease of this namespace, for the instance `me`. The client must not be behind the fence.
    pub fn new(client: Client, namespace: &str, me: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, me: me.to_owned(), sighting: Sighting::default(), fence: Fence::default() }
    }

    /// Open while this instance certainly leads.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Waits until this instance has the Lease.
    pub async fn acquire(&self) {
        loop {
            match self.attempt(Instant::now).await {
                Ok(Verdict::Mine) => return,
                Ok(verdict) => tracing::debug!(?verdict, "waiting for the Lease"),
                Err(error) => tracing::warn!(%error, "Lease not taken; it is tried again"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews the Lease until that fails; the fence is shut then.
    pub async fn keep(&self) -> LeaseError {
        let mut renewed = Instant::now();
        let lost = loop {
            tokio::time::sleep(PERIOD).await;
            // A request that hangs counts as one that failed.
            let remaining = RENEW_WITHIN.saturating_sub(renewed.elapsed());
            let begun = Instant::now();
            let attempt = tokio::time::timeout(remaining, self.renew(Instant::now)).await;
            match attempt {
                Ok(Ok(())) => renewed = begun,
                Ok(Err(LeaseError::Api(error))) if renewed.elapsed() >= RENEW_WITHIN => {
                    break LeaseError::NotRenewed(error);
                }
                Ok(Err(LeaseError::Api(error))) => tracing::warn!(%error, "Lease not renewed; it is tried again"),
                Ok(Err(error)) => break error,
                Err(_) => break LeaseError::NotRenewed(kube::Error::Service("no answer".into())),
            }
        };
        self.fence.shut();
        lost
    }

    /// Renews the Lease once. `now` is the clock.
    pub(crate) async fn renew(&self, now: impl Fn() -> Instant) -> Result<(), LeaseError> {
        let lease = self.api.get(names::LEASE).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        if evaluate(Some(&spec), &self.me, Duration::ZERO) != Verdict::Mine {
            self.fence.shut();
            return Err(LeaseError::Taken(spec.holder_identity.unwrap_or_default()));
        }
        self.take(lease, now()).await?;
        Ok(())
    }

    /// Takes the Lease if it is free. `now` is the clock.
    pub(crate) async fn attempt(&self, now: impl Fn() -> Instant) -> Result<Verdict, kube::Error> {
        let asked = now();
        let lease = self.api.get_opt(names::LEASE).await?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.as_deref());
        let unchanged = self.sighting.unchanged(version, asked, now());
        match evaluate(lease.as_ref().and_then(|lease| lease.spec.as_ref()), &self.me, unchanged) {
            Verdict::Taken(left) => Ok(Verdict::Taken(left)),
            Verdict::Free | Verdict::Mine => {
                self.take(lease.unwrap_or_default(), now()).await?;
                Ok(Verdict::Mine)
            }
        }
    }

    /// Takes the Lease from whoever has it, for `duration`. This instance does not lead by that: it keeps others from it.
    pub async fn seize(&self, duration: Duration) -> Result<(), LeaseError> {
        let lease = self.api.get_opt(names::LEASE).await?;
        self.write(lease.unwrap_or_default(), duration).await?;
        Ok(())
    }

    /// Gives the Lease back, so that another instance need not wait.
    pub async fn release(&self) -> Result<(), LeaseError> {
        self.fence.shut();
        let mut lease = self.api.get(names::LEASE).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.me) {
            spec.holder_identity = None;
            self.api.replace(names::LEASE, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    /// Writes `lease` as ours, and opens the fence for as long as nobody else may take it, counted from before it was written.
    async fn take(&self, lease: Lease, begun: Instant) -> Result<(), kube::Error> {
        self.write(lease, DURATION).await?;
        self.fence.open_until(begun + RENEW_WITHIN);
        Ok(())
    }

    /// Writes `lease` with us as its holder; fails if somebody has written it since it was read.
    async fn write(&self, mut lease: Lease, duration: Duration) -> Result<(), kube::Error> {
        // For people: no instance reads it.
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.take().unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.me);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
            renew_time: Some(now.clone()),
            acquire_time: if is_ours { before.acquire_time } else { Some(now) },
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!is_ours)),
            ..LeaseSpec::default()
        });
        let params = PostParams { field_manager: Some(names::OPERATOR.to_owned()), ..PostParams::default() };
        match lease.metadata.resource_version {
            Some(_) => self.api.replace(names::LEASE, &params, &lease).await?,
            None => {
                lease.metadata.name = Some(names::LEASE.to_owned());
                self.api.create(&params, &lease).await?
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeApi;

    #[tokio::test]
    async fn one_holds_it_until_it_is_seized_or_given_back() {
        let api = FakeApi::default();
        let holder = |me: &str| Holder::new(api.client(), "granary", me);
        let (first, second, preflight) = (holder("first"), holder("second"), holder("preflight"));
        assert_eq!(first.attempt(Instant::now).await.unwrap(), Verdict::Mine);
        assert!(matches!(second.attempt(Instant::now).await.unwrap(), Verdict::Taken(_)));
        first.renew(Instant::now).await.unwrap();

        first.release().await.unwrap();
        assert_eq!(second.attempt(Instant::now).await.unwrap(), Verdict::Mine);
        // Not its own any more.
        first.release().await.unwrap();
        second.renew(Instant::now).await.unwrap();

        preflight.seize(Duration::from_secs(30)).await.unwrap();
        let lost = second.renew(Instant::now).await;
        assert!(matches!(lost, Err(LeaseError::Taken(holder)) if holder == "preflight"));
        assert!(matches!(first.attempt(Instant::now).await.unwrap(), Verdict::Taken(_)));
    }
}
