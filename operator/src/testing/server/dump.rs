//! Objects as text, without what differs whenever the same is done again: times, UIDs, and names that are made of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Key, is_event};

/// One object a paragraph, by collection and then by age.
pub(super) fn dump(objects: &BTreeMap<Key, Value>) -> String {
    let mut kept: Vec<(&Key, &Value)> = objects.iter().filter(|(key, _)| !is_event(key)).collect();
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    kept.sort_by_key(|(key, object)| (&key.0, &key.1, uid(object)));
    let mut text = String::new();
    for (key, object) in &kept {
        let mut object = (*object).clone();
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        timeless(&mut object);
        text += &format!("{} {}\n{object:#}\n\n", key.0, key.1);
    }
    let made_names = ["/apis/batch/v1/jobs", "/apis/granary.dev/v1alpha1/datasetversions"];
    for (nth, (key, _)) in kept.iter().filter(|(key, _)| made_names.contains(&key.0.as_str())).enumerate() {
        text = text.replace(&key.2, &format!("<name {nth}>"));
    }
    without_uids(&text)
}

/// Replaces times, also those in objects that annotations hold.
fn timeless(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(timeless),
        Value::Array(items) => items.iter_mut().for_each(timeless),
        Value::String(text) if text.parse::<Timestamp>().is_ok() => *value = json!("<time>"),
        Value::String(text) if text.starts_with('{') => {
            if let Ok(mut inner) = serde_json::from_str::<Value>(text) {
                timeless(&mut inner);
                *value = inner;
            }
        }
        _ => {}
    }
}

/// Numbers UIDs by where they appear first.
fn without_uids(text: &str) -> String {
    let mut known: Vec<&str> = Vec::new();
    let mut parts = text.split("uid-");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..6).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(digits) => {
                let nth = known.iter().position(|other| *other == digits).unwrap_or_else(|| {
                    known.push(digits);
                    known.len() - 1
                });
                result += &format!("<uid {nth}>{}", &part[6..]);
            }
            None => result += &format!("uid-{part}"),
        }
    }
    result
}
