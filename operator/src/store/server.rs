//! The HTTPS server of the image store: `granary_crds::exchange` says what it answers.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{StreamExt, TryStreamExt};
use granary_crds::exchange::coding::{Coding, ZSTD};
use granary_crds::exchange::{ARTIFACTS_PREFIX, ASSIGNMENT_PATH, Assignment, IndexResult, RESULT_PATH};

use super::{Address, ImageStore, Refusal};
use crate::metrics::Metrics;

/// Largest result: what an object of Kubernetes may have, and room for its JSON.
const RESULT_BYTES: usize = 4 * 1024 * 1024;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A node: it may read everything.
    Node,
    /// An index Job that the operator made.
    Job(JobRef),
}

/// An index Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// What the server does not decide itself.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Who the token's bearer is.
    async fn caller(&self, token: &str) -> Result<Caller, Refusal>;

    /// What a Job shall index.
    async fn assignment(&self, job: &JobRef) -> Result<Assignment, Refusal>;

    /// Takes a Job's result; when this returns, it is recorded.
    async fn result(&self, job: &JobRef, result: IndexResult) -> Result<(), Refusal>;
}

/// What the server works with.
#[derive(Clone)]
pub struct Service {
    /// Who may, and what.
    pub desk: Arc<dyn Desk>,
    /// Where artifacts lie.
    pub store: Arc<dyn ImageStore>,
    /// For counting.
    pub metrics: Arc<Metrics>,
}

/// The routes.
pub fn router(service: Service) -> Router {
    Router::new()
        .route(ASSIGNMENT_PATH, get(assignment))
        .route(&format!("{ARTIFACTS_PREFIX}{{digest}}"), get(fetch).put(put).layer(DefaultBodyLimit::disable()))
        .route(RESULT_PATH, post(result).layer(DefaultBodyLimit::max(RESULT_BYTES)))
        .fallback(|| async { Refusal::NotFound("no such path".to_owned()) })
        .with_state(service)
}

impl FromRequestParts<Service> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Refusal> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer ")).filter(|token| !token.is_empty());
        service.desk.caller(token.ok_or(Refusal::Unauthenticated)?).await
    }
}

impl FromRequestParts<Service> for JobRef {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Refusal> {
        match Caller::from_request_parts(parts, service).await? {
            Caller::Job(job) => Ok(job),
            Caller::Node => Err(Refusal::Forbidden("nodes only read artifacts".to_owned())),
        }
    }
}

async fn assignment(State(service): State<Service>, job: JobRef) -> Result<Json<Assignment>, Refusal> {
    service.desk.assignment(&job).await.map(Json)
}

async fn fetch(
    State(service): State<Service>,
    caller: Caller,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let address = address(&digest)?;
    if let Caller::Job(job) = &caller {
        let parent = service.desk.assignment(job).await?.parent.map(|parent| parent.extents.digest);
        if parent != Some(digest) {
            return Err(Refusal::Forbidden("a Job reads the table that it extends, and nothing else".to_owned()));
        }
    }
    let accepted = Coding::accepted(text(&headers, &ACCEPT_ENCODING));
    let Some(artifact) = service.store.get(&address, accepted).await? else {
        return Err(Refusal::NotFound(format!("there is no artifact {address}")));
    };
    service.metrics.store_sent_bytes.inc_by(artifact.bytes);
    let mut response = Body::from_stream(artifact.stream).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, artifact.bytes.into());
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if artifact.coding == Coding::Zstd {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(ZSTD));
    }
    Ok(response)
}

async fn put(
    State(service): State<Service>,
    // Asked for before the body is taken.
    _job: JobRef,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let address = address(&digest)?;
    let coding = text(&headers, &CONTENT_ENCODING);
    let coding =
        Coding::of(coding).ok_or_else(|| Refusal::Coding(coding.unwrap_or_default().chars().take(80).collect()))?;
    let body = body.into_data_stream().map_err(std::io::Error::other).boxed();
    let is_new = service.store.put(&address, coding, body).await?;
    Ok(if is_new { StatusCode::CREATED } else { StatusCode::OK })
}

async fn result(
    State(service): State<Service>,
    job: JobRef,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<StatusCode, Refusal> {
    tracing::debug!(job = job.name, bytes = ?headers.get(CONTENT_LENGTH), "result received");
    let result = serde_json::from_slice(&body).map_err(|error| Refusal::Bad(format!("not a result: {error}")))?;
    service.desk.result(&job, result).await?;
    Ok(StatusCode::OK)
}

/// A header's value; one that is no text is taken for a coding that nobody knows.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn address(digest: &str) -> Result<Address, Refusal> {
    digest.parse().map_err(|error: super::address::NotAnAddress| Refusal::Bad(error.to_string()))
}
