//! Lets writes through only while this instance certainly leads.
//!
//! An instance that was stopped for a while (by its machine, or by a lack of CPU) does not know that another one leads by now. So each
//! write is compared with the clock at the moment at which it is sent, and not only whenever a renewal fails.

use std::sync::Arc;
use std::task::{self, Poll};

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use http::{Method, Request};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// A write was not sent.
#[derive(Debug, thiserror::Error)]
#[error("this instance does not lead (any more): nothing was written")]
pub struct NotLeading;

/// Open while this instance leads. A layer of a client: what it does not let through is not sent, and fails with [`NotLeading`].
#[derive(Clone, Default)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

impl Fence {
    /// Opens it until this moment.
    pub(super) fn open_until(&self, end: Instant) {
        *self.0.lock() = Some(end);
    }

    /// Shuts it: the Lease is lost, or was given back.
    pub(super) fn shut(&self) {
        *self.0.lock() = None;
    }

    /// Whether it is open at `now`.
    pub fn is_open(&self, now: Instant) -> bool {
        self.0.lock().is_some_and(|end| now < end)
    }
}

impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { inner, fence: self.clone() }
    }
}

/// A client's service behind a [`Fence`].
#[derive(Clone)]
pub struct Fenced<S> {
    inner: S,
    fence: Fence,
}

impl<S> Service<Request<Body>> for Fenced<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.method() != Method::GET && !self.fence.is_open(Instant::now()) {
            return future::ready(Err(NotLeading.into())).boxed();
        }
        self.inner.call(request).map(|answer| answer.map_err(Into::into)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_shuts_by_itself_when_the_time_is_over() {
        let fence = Fence::default();
        let now = Instant::now();
        assert!(!fence.is_open(now), "an instance that has not taken the Lease does not lead");
        fence.open_until(now + Duration::from_secs(10));
        assert!(fence.is_open(now) && fence.is_open(now + Duration::from_secs(9)));
        assert!(!fence.is_open(now + Duration::from_secs(10)));
        fence.shut();
        assert!(!fence.is_open(now));
    }
}
