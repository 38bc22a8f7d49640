//! Events: what a user should know, said once.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::names;

/// How long the same sentence about the same object is not repeated. The API server forgets an event after an hour.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should do something.
    Warning,
}

/// An event that a plan wants to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How bad it is.
    pub severity: Severity,
    /// Why, in CamelCase.
    pub reason: String,
    /// What was tried, in CamelCase.
    pub action: &'static str,
    /// A sentence that says what to do.
    pub text: String,
}

impl Note {
    /// A note.
    pub fn new(severity: Severity, reason: &str, action: &'static str, text: String) -> Self {
        Self { severity, reason: reason.to_owned(), action, text }
    }
}

/// Publishes events and remembers what was said.
pub struct Events {
    recorder: Recorder,
    said: Mutex<HashMap<(String, String), (String, Instant)>>,
}

impl Events {
    /// Events reported by this instance of the operator.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: names::OPERATOR.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), said: Mutex::new(HashMap::new()) }
    }

    /// Publishes `notes` about an object. An event that cannot be written is logged: it never holds up a reconcile.
    pub async fn publish(&self, about: &ObjectReference, notes: &[Note]) {
        for note in notes {
            if !self.is_news(about, note) {
                continue;
            }
            let event = Event {
                type_: match note.severity {
                    Severity::Normal => EventType::Normal,
                    Severity::Warning => EventType::Warning,
                },
                reason: note.reason.clone(),
                note: Some(shortened(&note.text)),
                action: note.action.to_owned(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, about).await {
                tracing::warn!(object = about.name, reason = note.reason, %error, "event not published");
            }
        }
    }

    fn is_news(&self, about: &ObjectReference, note: &Note) -> bool {
        let now = Instant::now();
        let mut said = self.said.lock();
        said.retain(|_, (_, time)| now - *time < REPEAT_AFTER);
        let key = (about.uid.clone().unwrap_or_default(), note.reason.clone());
        let text = said.get(&key).map(|(text, _)| text);
        if text == Some(&note.text) {
            return false;
        }
        said.insert(key, (note.text.clone(), now));
        true
    }
}

/// At most what the API server takes of a note, 1024 bytes.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(1024);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
