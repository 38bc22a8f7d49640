//! The volume context of a publish request, one `key=value` a line: the author of a volume writes into it what he likes.
#![no_main]

use std::collections::HashMap;

use granary_csi_driver::attributes::{VersionName, Volume, VolumeRequest, is_ephemeral};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let context: HashMap<String, String> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    match VolumeRequest::parse(&context) {
        Ok(request) => check(&request, is_ephemeral(&context)),
        // It ends up in an event of the pod.
        Err(error) => assert!(error.to_string().len() < 1000 + text.len(), "{error}"),
    }
});

/// Names become parts of request paths.
fn check(request: &VolumeRequest, ephemeral: bool) {
    match &request.volume {
        Volume::Persistent { namespace, dataset, uid } => {
            assert!(!ephemeral && is_label(namespace) && is_label(dataset));
            assert!(!uid.is_empty() && !uid.contains(['/', '.', '%', '?', '#']));
        }
        Volume::Ephemeral { dataset } => assert!(ephemeral && is_label(dataset)),
    }
    match &request.version {
        None => {}
        Some(VersionName::Name(name)) => assert!(is_label(name)),
        Some(VersionName::Digest(digest)) => assert!(digest.len() == 71 && !digest.contains(['/', '.'])),
    }
}

fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(plain)
}
