//! An API server in memory that does what it is told, as far as the operator relies on it: UIDs and resource versions, preconditions,
//! finalizers, owners, generations, status apart from the rest, selectors, merge patches and server-side apply of a status.

mod address;
mod dump;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Query;
use http::{Method, Request, Response, StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::address::Address;

/// An answer: status code and body.
type Answer = (StatusCode, Value);

/// Where objects lie: collection, namespace, name.
type Key = (String, String, String);

/// The API server.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    /// Source of UIDs, resource versions and times.
    count: u64,
    /// Changes of anything but events.
    changes: u64,
    /// Collections in which something was created, in order.
    created: Vec<String>,
}

/// When a client's process dies, counted in calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Never.
    Never,
    /// When this call is about to be sent.
    Before(usize),
    /// When this call was done, and its answer has not come back.
    After(usize),
}

/// A process that speaks to the server and may die.
pub struct Process {
    /// How it speaks.
    pub client: Client,
    calls: Arc<Mutex<Vec<String>>>,
    died: Arc<Notify>,
}

impl Process {
    /// Lives until the work is done (true) or the process has died.
    pub async fn lives(&self, work: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = self.died.notified() => false,
            () = work => true,
        }
    }

    /// What it has asked for, as `METHOD path`.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().clone()
    }
}

impl Server {
    /// Another server with the same objects.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// A process that dies as it is told.
    pub fn process(&self, death: Death) -> Process {
        let (calls, died) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let (server, heard, end) = (self.clone(), Arc::clone(&calls), Arc::clone(&died));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, heard, end) = (server.clone(), Arc::clone(&heard), Arc::clone(&end));
            async move {
                let nth = {
                    let mut heard = heard.lock();
                    heard.push(format!("{} {}", request.method(), request.uri().path()));
                    heard.len()
                };
                if matches!(death, Death::Before(call) if nth >= call) {
                    end.notify_one();
                    return std::future::pending().await;
                }
                let answer = server.answer(request).await;
                if matches!(death, Death::After(call) if nth >= call) {
                    end.notify_one();
                    return std::future::pending().await;
                }
                Ok::<_, std::io::Error>(answer)
            }
        });
        Process { client: Client::new(service, "default"), calls, died }
    }

    /// Does what somebody else asks for, who may.
    pub fn told(&self, method: Method, path: &str, body: Value) -> Value {
        let merge = "application/merge-patch+json";
        let (status, answer) = self.0.lock().serve(&method, &path.parse().unwrap(), merge, body);
        assert!(status.is_success(), "{method} {path}: {answer}");
        answer
    }

    /// All objects of a collection such as `/apis/batch/v1/jobs`, in all namespaces.
    pub fn all<T: DeserializeOwned>(&self, collection: &str) -> Vec<T> {
        let state = self.0.lock();
        let of = state.objects.iter().filter(|((found, _, _), _)| found == collection);
        of.map(|(_, object)| serde_json::from_value(object.clone()).unwrap()).collect()
    }

    /// How often anything but an event has changed.
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// In which collections something was created, events left out.
    pub fn created(&self) -> Vec<String> {
        self.0.lock().created.clone()
    }

    /// All objects but events, in a form in which two servers are equal that were told the same at other times.
    pub fn dump(&self) -> String {
        dump::dump(&self.0.lock().objects)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (status, answer) = self.0.lock().serve(&parts.method, &parts.uri, kind, body);
        let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
        *response.status_mut() = status;
        response
    }
}

impl State {
    fn serve(&mut self, method: &Method, uri: &Uri, kind: &str, body: Value) -> Answer {
        let address = Address::parse(uri.path());
        let key = (address.collection.clone(), address.namespace.clone(), address.name.clone());
        match (method, address.name.is_empty()) {
            (&Method::GET, true) => self.list(&address, uri),
            (&Method::GET, false) => self.objects.get(&key).cloned().map_or_else(not_found, ok),
            (&Method::POST, _) => self.create(&address, body),
            (&Method::PUT, _) => self.change(&key, &body, |found| *found = body.clone()),
            (&Method::PATCH, _) if kind.contains("apply") => self.apply(&key, &address, body),
            (&Method::PATCH, _) => self.change(&key, &body, |found| merge(found, &body)),
            (&Method::DELETE, _) => self.delete(&key, &body),
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn list(&self, address: &Address, uri: &Uri) -> Answer {
        let query: Query<BTreeMap<String, String>> = Query::try_from_uri(uri).unwrap();
        let selected = |object: &Value| {
            let labels = query.get("labelSelector").into_iter().flat_map(|text| text.split(','));
            let mut labels = labels.map(|pair| pair.split_once('=').unwrap());
            let fields = query.get("fieldSelector").and_then(|text| text.strip_prefix("metadata.name="));
            labels.all(|(key, value)| object["metadata"]["labels"][key] == value)
                && fields.is_none_or(|name| object["metadata"]["name"] == name)
        };
        let here =
            |key: &Key| key.0 == address.collection && (address.namespace.is_empty() || key.1 == address.namespace);
        let items = self.objects.iter().filter(|(key, object)| here(key) && selected(object));
        let items: Vec<&Value> = items.map(|(_, object)| object).collect();
        let version = self.count.to_string();
        ok(json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items}))
    }

    fn create(&mut self, address: &Address, mut object: Value) -> Answer {
        self.count += 1;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (address.collection.clone(), address.namespace.clone(), name);
        if self.objects.contains_key(&key) {
            return failure(409, "AlreadyExists");
        }
        let made = Timestamp::now() + SignedDuration::from_secs(i64::try_from(self.count).unwrap());
        object["metadata"]["uid"] = json!(format!("uid-{:06}", self.count));
        object["metadata"]["resourceVersion"] = json!(self.count.to_string());
        object["metadata"]["creationTimestamp"] = json!(Timestamp::from_second(made.as_second()).unwrap().to_string());
        object["metadata"]["generation"] = json!(1);
        if !address.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(address.namespace);
        }
        if let Some(members) = object.as_object_mut() {
            members.remove("status");
        }
        if !is_event(&key) {
            self.changes += 1;
            self.created.push(address.collection.clone());
        }
        self.objects.insert(key, object.clone());
        (StatusCode::CREATED, object)
    }

    /// Server-side apply by the only one who applies: a status is what he says it is, and of an object the members that he names.
    fn apply(&mut self, key: &Key, address: &Address, body: Value) -> Answer {
        if address.is_status {
            return self.change(key, &body, |found| found["status"] = body["status"].clone());
        }
        match self.objects.contains_key(key) {
            true => self.change(key, &body, |found| merge(found, &body)),
            false => self.create(address, body),
        }
    }

    /// Changes an object, if `wanted` names no other UID or resource version.
    fn change(&mut self, key: &Key, wanted: &Value, change: impl FnOnce(&mut Value)) -> Answer {
        let Some(found) = self.objects.get(key) else { return not_found() };
        for member in ["uid", "resourceVersion"] {
            let wanted = &wanted["metadata"][member];
            if !wanted.is_null() && *wanted != found["metadata"][member] {
                return failure(409, "Conflict");
            }
        }
        let mut object = found.clone();
        change(&mut object);
        for member in ["uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp"] {
            object["metadata"][member] = found["metadata"][member].clone();
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        }
        if object == *found {
            return ok(object);
        }
        if object["spec"] != found["spec"] {
            object["metadata"]["generation"] = json!(found["metadata"]["generation"].as_i64().unwrap_or_default() + 1);
        }
        self.keep(key, object)
    }

    /// Stores a changed object, or lets it go if it only waited for its finalizers.
    fn keep(&mut self, key: &Key, mut object: Value) -> Answer {
        self.count += 1;
        if !is_event(key) {
            self.changes += 1;
        }
        object["metadata"]["resourceVersion"] = json!(self.count.to_string());
        let deleted = object["metadata"].get("deletionTimestamp").is_some();
        if deleted && !has_finalizers(&object) {
            self.remove(key);
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
        ok(object)
    }

    fn delete(&mut self, key: &Key, options: &Value) -> Answer {
        let Some(found) = self.objects.get(key) else { return not_found() };
        let wanted = &options["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != found["metadata"]["uid"] {
            return failure(409, "Conflict");
        }
        let mut object = found.clone();
        if object["metadata"].get("deletionTimestamp").is_none() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.keep(key, object);
        }
        ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    /// Removes an object, and what it owns: the collector of garbage is always done.
    fn remove(&mut self, key: &Key) {
        let Some(gone) = self.objects.remove(key) else { return };
        let uid = gone["metadata"]["uid"].clone();
        let owned = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().any(|owner| owner["uid"] == uid)
        };
        let owned: Vec<Key> =
            self.objects.iter().filter(|(_, object)| owned(object)).map(|(key, _)| key.clone()).collect();
        for key in owned {
            self.delete(&key, &Value::Null);
        }
    }
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

fn is_event(key: &Key) -> bool {
    key.0.ends_with("/events")
}

/// RFC 7386.
fn merge(found: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *found = patch.clone();
        return;
    };
    if !found.is_object() {
        *found = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(found.as_object_mut().unwrap().remove(key)),
            value => merge(&mut found[key], value),
        }
    }
}

fn ok(object: Value) -> Answer {
    (StatusCode::OK, object)
}

fn not_found() -> Answer {
    failure(404, "NotFound")
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code});
    (StatusCode::from_u16(code).unwrap(), status)
}
