//! Leader election by a Lease.

mod holder;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;

pub(crate) use self::holder::PERIOD;
pub use self::holder::{Holder, LeaseError};

/// How long a Lease holds that is not renewed.
pub const DURATION: Duration = Duration::from_secs(15);

/// What a Lease means for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may take the Lease.
    Free,
    /// It holds the Lease.
    Mine,
    /// Another instance holds it, at least until this time.
    Taken(Timestamp),
}

/// What `lease` means for the instance `me` at `now`; no Lease is a free one.
pub fn evaluate(lease: Option<&LeaseSpec>, me: &str, now: Timestamp) -> Verdict {
    let Some((lease, holder)) = lease.and_then(|lease| Some((lease, lease.holder_identity.as_deref()?))) else {
        return Verdict::Free;
    };
    let seconds = lease.lease_duration_seconds.unwrap_or_default();
    let renewed = lease.renew_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let until = renewed.checked_add(jiff::SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
    if holder.is_empty() {
        Verdict::Free
    } else if holder == me {
        Verdict::Mine
    } else if until <= now {
        Verdict::Free
    } else {
        Verdict::Taken(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    fn lease(holder: Option<&str>, renewed: Option<i64>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            renew_time: renewed.map(|second| MicroTime(at(second))),
            ..LeaseSpec::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn by_table() {
        let now = at(100);
        for (lease, verdict) in [
            (None, Verdict::Free),
            (Some(lease(None, Some(99))), Verdict::Free),
            (Some(lease(Some(""), Some(99))), Verdict::Free),
            (Some(lease(Some("me"), Some(99))), Verdict::Mine),
            (Some(lease(Some("me"), Some(1))), Verdict::Mine),
            (Some(lease(Some("other"), Some(99))), Verdict::Taken(at(114))),
            (Some(lease(Some("other"), Some(86))), Verdict::Taken(at(101))),
            (Some(lease(Some("other"), Some(85))), Verdict::Free),
            (Some(lease(Some("other"), None)), Verdict::Free),
        ] {
            assert_eq!(evaluate(lease.as_ref(), "me", now), verdict, "{lease:?}");
        }
    }
}
