//! Runs a reconciler: for every object of its kind when it or something related changes, later again if the reconciler says so, and with a
//! growing wait after an error.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{BoxStream, select_all};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, ReconcileReason, ReconcileRequest};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Context, ReconcileError};
use crate::world::{Kind, Watched};

/// Objects reconciled at the same time, of one kind.
const CONCURRENCY: u16 = 8;
/// Events that follow each other this quickly are one.
const DEBOUNCE: Duration = Duration::from_millis(100);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// Reconciles the objects of one kind.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Kind;
    /// Its name, for metrics.
    const NAME: &'static str;
    /// Does what there is to do for one object; returns when to do it again if nothing changes before.
    async fn reconcile(context: &Context, object: Arc<Self::Kind>) -> Result<Option<Timestamp>, ReconcileError>;
}

/// References to objects that something related has changed for.
pub type Trigger<K> = BoxStream<'static, Vec<ObjectRef<K>>>;

/// Runs a reconciler until `stop`; the reconciles under way are finished.
pub async fn run<R: Reconciler>(
    context: Arc<Context>,
    watched: Arc<Watched<R::Kind>>,
    triggers: Vec<Trigger<R::Kind>>,
    stop: CancellationToken,
) where
    <R::Kind as kube::Resource>::DynamicType: Hash,
{
    let own = watched.changes().map(|object| vec![ObjectRef::from_obj(object.as_ref())]).boxed();
    let first = watched.list().iter().map(|object| ObjectRef::from_obj(object.as_ref())).collect();
    let first = futures::stream::iter([first]).boxed();
    let references = select_all(triggers.into_iter().chain([own, first]));
    let queue = references
        .flat_map(futures::stream::iter)
        .map(|obj_ref| {
            let reason = ReconcileReason::Unknown;
            Ok::<_, Infallible>(ReconcileRequest { obj_ref, reason })
        })
        .take_until(stop.cancelled_owned());
    let state = Arc::new(Running { context, failures: Mutex::new(HashMap::new()) });
    let config = Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    kube::runtime::applier(
        |object: Arc<R::Kind>, state: Arc<Running>| reconcile::<R>(object, state).boxed(),
        |object, error, state| state.retry::<R>(&object, error),
        state,
        watched.store(),
        queue,
        config,
    )
    // An object that is gone before its turn, and errors that the policy has logged.
    .for_each(|_| futures::future::ready(()))
    .await;
}

struct Running {
    context: Arc<Context>,
    failures: Mutex<HashMap<String, u32>>,
}

async fn reconcile<R: Reconciler>(object: Arc<R::Kind>, state: Arc<Running>) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let key = key(object.as_ref());
    let result = R::reconcile(&state.context, object).await;
    state.context.metrics.reconciled(R::NAME, result.as_ref().err(), started.elapsed());
    let again = result?;
    state.failures.lock().remove(&key);
    Ok(match again {
        Some(time) => Action::requeue(
            Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default().max(FIRST_RETRY),
        ),
        None => Action::await_change(),
    })
}

fn key<K: Kind>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

impl Running {
    fn retry<R: Reconciler>(&self, object: &R::Kind, error: &ReconcileError) -> Action {
        let key = key(object);
        if error.is_conflict() {
            tracing::debug!(kind = R::NAME, object = key, %error, "reconcile repeated");
            return Action::requeue(FIRST_RETRY);
        }
        let mut failures = self.failures.lock();
        let count = failures.entry(key.clone()).or_default();
        *count += 1;
        tracing::warn!(kind = R::NAME, object = key, attempt = *count, %error, "reconcile failed; it is repeated");
        let factor = 1_u32.checked_shl(*count - 1).unwrap_or(u32::MAX);
        Action::requeue(FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY))
    }
}
