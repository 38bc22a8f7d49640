//! Which addresses requests may go to.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use crate::{SourcePolicy, lane::Lane};

/// Names that one source's client resolves at once: a name server that does not answer holds a thread for each.
const LOOKUPS: usize = 4;

/// Why the guard stopped a request.
#[derive(Debug)]
pub(crate) struct AddressRefused(pub(crate) IpAddr);

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the address {} is not allowed", self.0)
    }
}

impl Error for AddressRefused {}

/// Resolves names and keeps only addresses that the policy allows. The client connects to what came out of here and to
/// nothing else, so a name cannot change its meaning between check and use.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    policy: Arc<SourcePolicy>,
    lookups: Lane,
}

impl Guard {
    pub(crate) fn new(policy: Arc<SourcePolicy>) -> Self {
        Self { policy, lookups: Lane::new(LOOKUPS) }
    }

    /// A resolver never sees an address that is written as such.
    pub(crate) fn check_host(&self, host: &str) -> Result<(), AddressRefused> {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match address {
            Ok(address) if !self.policy.allows(address) => Err(AddressRefused(address)),
            _ => Ok(()),
        }
    }
}

impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (policy, lookups) = (self.policy.clone(), self.lookups.clone());
        Box::pin(async move {
            let found = lookups.run(move || (name.as_str(), 0).to_socket_addrs()).await??;
            let found: Vec<_> = found.collect();
            let allowed: Vec<_> = found.iter().copied().filter(|address| policy.allows(address.ip())).collect();
            match (allowed.is_empty(), found.first()) {
                (true, Some(refused)) => Err(AddressRefused(refused.ip()).into()),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}
