//! Watches whose place in history is gone: etcd was compacted, or the API server has started anew. Over HTTP on loopback.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use granary_crds::Dataset;
use http::StatusCode;
use kube::{Client, Config, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::World;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the API server answers about Datasets.
enum Answer {
    /// To a list: objects by name and class, and the version of the list.
    List(&'static [(&'static str, &'static str)], u64),
    /// To a watch from this version: these lines; and then nothing more, or the end.
    Watch(u64, Vec<Value>, End),
    /// To a watch from this version: that it is gone.
    Gone(u64),
}

/// How a watch goes on when everything is said.
enum End {
    Open,
    Closed,
}

type Script = Arc<Mutex<VecDeque<Answer>>>;

fn dataset(name: &str, class: &str, version: u64) -> Value {
    json!({
        "apiVersion": "granary.dev/v1alpha1", "kind": "Dataset",
        "metadata": {"name": name, "namespace": "a", "resourceVersion": version.to_string()},
        "spec": {"sources": [{"uri": "s3://b/"}], "storageClassName": class},
    })
}

fn gone() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "The resourceVersion for the provided watch is too old.",
    })
}

fn list(items: &[Value], version: u64) -> Response {
    let version = version.to_string();
    axum::Json(json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items}))
        .into_response()
}

fn watch(lines: Vec<Value>, end: &End) -> Response {
    let said = futures::stream::iter(lines).map(|line| Ok::<_, std::io::Error>(Bytes::from(format!("{line}\n"))));
    match end {
        End::Closed => Body::from_stream(said).into_response(),
        End::Open => Body::from_stream(said.chain(futures::stream::pending())).into_response(),
    }
}

fn answer(script: &Script, uri: &Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let watches = query.split('&').any(|pair| pair == "watch=true");
    if !uri.path().ends_with("/datasets") {
        return if watches { watch(Vec::new(), &End::Open) } else { list(&[], 1) };
    }
    let from = |version: u64| query.split('&').any(|pair| pair == format!("resourceVersion={version}"));
    match script.lock().pop_front() {
        Some(Answer::List(objects, version)) if !watches => {
            let items: Vec<Value> = objects.iter().map(|(name, class)| dataset(name, class, version)).collect();
            list(&items, version)
        }
        Some(Answer::Watch(version, lines, end)) if watches && from(version) => watch(lines, &end),
        Some(Answer::Gone(version)) if watches && from(version) => {
            (StatusCode::GONE, axum::Json(gone())).into_response()
        }
        // Not as the script has it: the test fails by what is missing then.
        _ => (StatusCode::BAD_REQUEST, format!("unexpected: {uri}")).into_response(),
    }
}

async fn serve(script: Script) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(move |uri: Uri| std::future::ready(answer(&script, &uri)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Client::try_from(Config::new(url.parse().unwrap())).unwrap()
}

#[tokio::test]
async fn a_watch_whose_place_is_gone_lists_again_and_goes_on() {
    let event = |kind: &str, object: Value| json!({"type": kind, "object": object});
    let script: Script = Arc::new(Mutex::new(VecDeque::from([
        Answer::List(&[("stays", "one"), ("goes", "one")], 10),
        // It ends, and the next one would begin where history is gone: said in the stream, as the API server does.
        Answer::Watch(10, vec![event("MODIFIED", dataset("stays", "two", 11))], End::Closed),
        Answer::Watch(11, vec![event("ERROR", gone())], End::Closed),
        Answer::List(&[("stays", "three"), ("came", "one")], 20),
        // And as a code, as the documentation has it.
        Answer::Gone(20),
        Answer::List(&[("stays", "three"), ("came", "one"), ("late", "one")], 30),
        Answer::Watch(30, vec![event("DELETED", dataset("came", "one", 31))], End::Open),
    ])));
    let client = serve(Arc::clone(&script)).await;
    let world = World::watch(&client);
    let mut changes = pin!(world.datasets.changes());
    let known = || {
        let mut known: Vec<(String, String)> = world.datasets.list().iter().map(|it| named(it)).collect();
        known.sort();
        known
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, class)| ((*name).to_owned(), (*class).to_owned())).collect()
    };
    tokio::time::timeout(PATIENCE, world.ready()).await.unwrap();
    let mut told = Vec::new();
    let all = async {
        while known() != pairs(&[("late", "one"), ("stays", "three")]) {
            told.push(named(&changes.next().await.unwrap()));
        }
    };
    let done = tokio::time::timeout(PATIENCE, all).await;
    assert!(done.is_ok(), "{:?} is known, and {told:?} was told", known());
    while let Some(Some(change)) = changes.next().now_or_never() {
        told.push(named(&change));
    }
    for change in [("stays", "two"), ("goes", "one"), ("stays", "three"), ("came", "one"), ("late", "one")] {
        let change = pairs(&[change]).remove(0);
        assert!(told.contains(&change), "nobody was told of {change:?}: {told:?}");
    }
    assert!(script.lock().is_empty());
}

fn named(dataset: &Dataset) -> (String, String) {
    (dataset.name_any(), dataset.spec.storage_class_name.clone())
}
