//! An API server for tests: answers with what it was given, and remembers what it was asked. One that does what it is told is in
//! [`server`].

pub mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub body: Value,
}

/// What the API server has, by path, and what it was asked.
#[derive(Clone, Default)]
pub struct FakeApi {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeApi {
    /// Answers a GET of `path` with `object`.
    pub fn with(self, path: &str, object: Value) -> Self {
        self.objects.lock().insert(path.to_owned(), object);
        self
    }

    /// Writes that were asked for, as `METHOD path`.
    pub fn writes(&self) -> Vec<String> {
        self.written().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    /// Writes that were asked for.
    pub fn written(&self) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked.method != Method::GET).cloned().collect()
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::io::Error>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let path = parts.uri.path().to_owned();
        self.asked.lock().push(Asked { method: parts.method.clone(), path: path.clone(), body: body.clone() });
        let found = self.objects.lock().get(&path).cloned();
        let (status, answer) = match (parts.method, found) {
            (Method::GET, Some(object)) => (StatusCode::OK, object),
            (Method::POST, Some(object)) if path.ends_with("tokenreviews") => (StatusCode::CREATED, object),
            (Method::POST, _) => self.created(&path, body),
            (Method::PATCH, Some(object)) => (StatusCode::OK, object),
            (Method::PUT, Some(found)) => self.replaced(path, &found, body),
            (Method::DELETE, _) => (StatusCode::OK, json!({"kind": "Status", "status": "Success"})),
            _ => (StatusCode::NOT_FOUND, failure(404, "NotFound")),
        };
        let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
        *response.status_mut() = status;
        response
    }

    fn replaced(&self, path: String, found: &Value, mut object: Value) -> (StatusCode, Value) {
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        if version(found) != version(&object) {
            return (StatusCode::CONFLICT, failure(409, "Conflict"));
        }
        let next = version(found).and_then(|version| version.parse::<u64>().ok()).unwrap_or_default() + 1;
        object["metadata"]["resourceVersion"] = json!(next.to_string());
        self.objects.lock().insert(path, object.clone());
        (StatusCode::OK, object)
    }

    fn created(&self, collection: &str, mut object: Value) -> (StatusCode, Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let path = format!("{collection}/{name}");
        let mut objects = self.objects.lock();
        if objects.contains_key(&path) {
            return (StatusCode::CONFLICT, failure(409, "AlreadyExists"));
        }
        object["metadata"]["uid"] = json!(format!("uid-of-{name}"));
        object["metadata"]["resourceVersion"] = json!("1");
        objects.insert(path, object.clone());
        (StatusCode::CREATED, object)
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code})
}
