//! Conditions: made, compared and merged so that a status write never causes the next one.

use granary_crds::{Condition, Time};
use jiff::Timestamp;

/// Builds the conditions of one status, taking over the transition times of the previous one.
pub struct Conditions<'a> {
    previous: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    built: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// Conditions about the spec of this `generation`, following `previous`.
    pub fn new(previous: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { previous, generation, now, built: Vec::new() }
    }

    /// Sets a condition that is True or False.
    pub fn set(&mut self, type_: &str, is_true: bool, reason: &str, message: impl Into<String>) {
        self.push(type_, if is_true { "True" } else { "False" }, reason, message.into());
    }

    /// Sets a condition that is not known yet.
    pub fn set_unknown(&mut self, type_: &str, reason: &str, message: impl Into<String>) {
        self.push(type_, "Unknown", reason, message.into());
    }

    /// Keeps a condition as it was, if it was there: nothing new is known.
    pub fn keep(&mut self, type_: &str) {
        if let Some(previous) = find(self.previous, type_) {
            self.built.push(previous.clone());
        }
    }

    fn push(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let last_transition_time = find(self.previous, type_)
            .filter(|previous| previous.status == status)
            .map_or(Time(seconds(self.now)), |previous| previous.last_transition_time.clone());
        self.built.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: self.generation,
            last_transition_time,
        });
    }

    /// The finished list.
    pub fn finish(self) -> Vec<Condition> {
        self.built
    }
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// Whole seconds: the API server stores no more, and what it returns must equal what was sent.
pub fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_a_change_of_status_moves_the_time() {
        let mut first = Conditions::new(&[], Some(1), at(10));
        first.set("Ready", false, "Indexing", "wait");
        let first = first.finish();
        let mut second = Conditions::new(&first, Some(1), at(20));
        second.set("Ready", false, "Indexing", "wait");
        let second = second.finish();
        assert_eq!(first, second);
        let mut third = Conditions::new(&second, Some(1), at(30));
        third.set("Ready", true, "VersionCurrent", "done");
        assert_eq!(third.finish()[0].last_transition_time.0, at(30));
    }

    #[test]
    fn keeps_what_is_not_known_anew() {
        let mut first = Conditions::new(&[], Some(1), at(10));
        first.set("SourceAvailable", false, "BucketNotFound", "make it");
        let first = first.finish();
        let mut second = Conditions::new(&first, Some(2), at(20));
        second.keep("SourceAvailable");
        second.keep("Ready");
        assert_eq!(second.finish(), first);
    }
}
