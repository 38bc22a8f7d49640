//! Leader election by a Lease.
//!
//! No two clocks are compared: an instance takes another one's Lease when it has itself seen it unchanged for as long as it holds. What
//! the holder's clock said is never read, and a clock that jumps, here or there, changes nothing.

mod fence;
mod holder;
mod sighting;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;

pub use self::fence::{Fence, Fenced, NotLeading};
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
    /// Another instance holds it, for so long at least.
    Taken(Duration),
}

/// What `lease` means for the instance `me`, which has seen it as it is for the time `unchanged`; no Lease is a free one.
pub fn evaluate(lease: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Verdict {
    let Some((lease, holder)) = lease.and_then(|lease| Some((lease, lease.holder_identity.as_deref()?))) else {
        return Verdict::Free;
    };
    if holder.is_empty() {
        return Verdict::Free;
    }
    if holder == me {
        return Verdict::Mine;
    }
    let seconds = u64::try_from(lease.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
    match Duration::from_secs(seconds).checked_sub(unchanged) {
        Some(left) if !left.is_zero() => Verdict::Taken(left),
        _ => Verdict::Free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    fn lease(holder: Option<&str>, renewed: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn by_table_whatever_the_holders_clock_says() {
        let seconds = Duration::from_secs;
        for renewed in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::now(), Timestamp::MAX] {
            let lease = |holder| Some(lease(holder, renewed));
            for (lease, unchanged, verdict) in [
                (None, 0, Verdict::Free),
                (lease(None), 0, Verdict::Free),
                (lease(Some("")), 0, Verdict::Free),
                (lease(Some("me")), 0, Verdict::Mine),
                (lease(Some("me")), 1000, Verdict::Mine),
                (lease(Some("other")), 0, Verdict::Taken(seconds(15))),
                (lease(Some("other")), 14, Verdict::Taken(seconds(1))),
                (lease(Some("other")), 15, Verdict::Free),
                (lease(Some("other")), 1000, Verdict::Free),
            ] {
                assert_eq!(evaluate(lease.as_ref(), "me", seconds(unchanged)), verdict, "{lease:?} for {unchanged} s");
            }
        }
    }

    #[test]
    fn a_lease_without_a_duration_holds_for_nobody() {
        for duration in [None, Some(0), Some(-15)] {
            let lease = LeaseSpec { lease_duration_seconds: duration, ..lease(Some("other"), Timestamp::now()) };
            assert_eq!(evaluate(Some(&lease), "me", Duration::ZERO), Verdict::Free, "{duration:?}");
        }
    }
}
