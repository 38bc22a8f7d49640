//! Takes, renews and gives back the Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use super::{DURATION, Verdict, evaluate};
use crate::names;

/// How often the Lease is renewed, and how often a waiting instance looks.
pub(crate) const PERIOD: Duration = Duration::from_secs(3);
/// A leader that could not renew for so long no longer leads: before another one may take the Lease.
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
}

impl Holder {
    /// The Lease of this namespace, for the instance `me`.
    pub fn new(client: Client, namespace: &str, me: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), me: me.to_owned() }
    }

    /// Waits until this instance has the Lease.
    pub async fn acquire(&self) {
        loop {
            match self.attempt().await {
                Ok(Verdict::Mine) => return,
                Ok(verdict) => tracing::debug!(?verdict, "waiting for the Lease"),
                Err(error) => tracing::warn!(%error, "Lease not taken; it is tried again"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Renews the Lease until that fails.
    pub async fn keep(&self) -> LeaseError {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(PERIOD).await;
            // A request that hangs counts as one that failed.
            let remaining = RENEW_WITHIN.saturating_sub(renewed.elapsed());
            let attempt = tokio::time::timeout(remaining, self.renew()).await;
            match attempt {
                Ok(Ok(())) => renewed = Instant::now(),
                Ok(Err(LeaseError::Api(error))) if renewed.elapsed() >= RENEW_WITHIN => {
                    return LeaseError::NotRenewed(error);
                }
                Ok(Err(LeaseError::Api(error))) => tracing::warn!(%error, "Lease not renewed; it is tried again"),
                Ok(Err(error)) => return error,
                Err(_) => return LeaseError::NotRenewed(kube::Error::Service("no answer".into())),
            }
        }
    }

    async fn renew(&self) -> Result<(), LeaseError> {
        let lease = self.api.get(names::LEASE).await?;
        let spec = lease.spec.clone().unwrap_or_default();
        if evaluate(Some(&spec), &self.me, Timestamp::now()) != Verdict::Mine {
            return Err(LeaseError::Taken(spec.holder_identity.unwrap_or_default()));
        }
        self.write(lease, DURATION).await?;
        Ok(())
    }

    async fn attempt(&self) -> Result<Verdict, kube::Error> {
        let lease = self.api.get_opt(names::LEASE).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        match evaluate(spec, &self.me, Timestamp::now()) {
            Verdict::Taken(until) => Ok(Verdict::Taken(until)),
            Verdict::Free | Verdict::Mine => {
                self.write(lease.unwrap_or_default(), DURATION).await?;
                Ok(Verdict::Mine)
            }
        }
    }

    /// Takes the Lease from whoever has it, for `duration`.
    pub async fn seize(&self, duration: Duration) -> Result<(), LeaseError> {
        let lease = self.api.get_opt(names::LEASE).await?;
        self.write(lease.unwrap_or_default(), duration).await?;
        Ok(())
    }

    /// Gives the Lease back, so that another instance need not wait.
    pub async fn release(&self) -> Result<(), LeaseError> {
        let mut lease = self.api.get(names::LEASE).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.me) {
            spec.holder_identity = None;
            self.api.replace(names::LEASE, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    /// Writes `lease` with us as its holder; fails if somebody has written it since it was read.
    async fn write(&self, mut lease: Lease, duration: Duration) -> Result<(), kube::Error> {
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
        assert_eq!(first.attempt().await.unwrap(), Verdict::Mine);
        assert!(matches!(second.attempt().await.unwrap(), Verdict::Taken(_)));
        first.renew().await.unwrap();

        first.release().await.unwrap();
        assert_eq!(second.attempt().await.unwrap(), Verdict::Mine);
        // Not its own any more.
        first.release().await.unwrap();
        second.renew().await.unwrap();

        preflight.seize(Duration::from_secs(30)).await.unwrap();
        let lost = second.renew().await;
        assert!(matches!(lost, Err(LeaseError::Taken(holder)) if holder == "preflight"));
        assert!(matches!(first.attempt().await.unwrap(), Verdict::Taken(_)));
    }
}
