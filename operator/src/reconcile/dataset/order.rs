//! What an index Job was ordered to do, what came of it, and what is remembered of the last complete look at the sources.
//!
//! Order and outcome lie in annotations of the Job, the last look in one of the Dataset: a restarted operator goes on from there.

use granary_crds::{Dataset, DatasetSpec};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names;

/// What a Job shall find out.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Hash of the sources and credentials that it reads.
    pub sources: String,
    /// The `refresh.manual` that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<String>,
    /// The pinned digest that no version had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// How the attempt before it failed: known until this one reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Failure>,
}

/// A failed attempt.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reason of `SourceAvailable`; none if the Job ended without a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    pub message: String,
    /// Its number.
    pub attempt: u32,
}

impl Order {
    /// Whether both ask the same; attempts do not matter.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.sources == other.sources && self.manual == other.manual && self.pin == other.pin
    }

    /// The order of a Job.
    pub fn of(job: &Job) -> Option<Self> {
        annotation(job, names::ORDER_ANNOTATION)
    }
}

/// What came of a Job. Written by the store when the Job reports.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The sources have this version.
    Version {
        /// The DatasetVersion.
        name: String,
        /// When the report came.
        time: Timestamp,
    },
    /// It could not be done.
    Failed {
        /// A reason of the condition `SourceAvailable`.
        reason: String,
        /// What to do about it.
        message: String,
        /// When the report came.
        time: Timestamp,
    },
}

impl Outcome {
    /// The reported outcome of a Job.
    pub fn of(job: &Job) -> Option<Self> {
        annotation(job, names::OUTCOME_ANNOTATION)
    }
}

/// The last complete look at the sources of a Dataset.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// Hash of the sources and credentials that were read.
    pub sources: String,
    /// The pinned digest that was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The version that the sources have: the latest.
    pub version: String,
    /// When.
    pub time: Timestamp,
}

impl Look {
    /// What the Dataset remembers.
    pub fn of(dataset: &Dataset) -> Option<Self> {
        annotation(dataset, names::LOOK_ANNOTATION)
    }
}

/// Hash of what decides which listing a Dataset has: sources and the Secret's name.
pub fn sources_hash(spec: &DatasetSpec) -> String {
    let hashed = serde_json::json!([spec.sources, spec.credentials]);
    hex::encode(&Sha256::digest(hashed.to_string())[..8])
}

fn annotation<K: Resource, T: for<'de> Deserialize<'de>>(object: &K, key: &str) -> Option<T> {
    // What somebody else wrote there counts as nothing: the price is one more look at the sources.
    serde_json::from_str(object.annotations().get(key)?).ok()
}
