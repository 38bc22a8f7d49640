//! Keys of a Secret, and how they reach a source.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};

/// The keys and values of a Secret. Formatting shows names only, never a value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretKeys(BTreeMap<String, String>);

impl SecretKeys {
    /// The value of `key` for the source called `name`: its own (`name.key`) comes before the common one.
    pub fn get(&self, name: Option<&str>, key: &str) -> Option<&str> {
        name.and_then(|name| self.0.get(&format!("{name}.{key}"))).or_else(|| self.0.get(key)).map(String::as_str)
    }

    /// The value of `key` from the same place as `beside`: parts of one credential are never mixed from two.
    pub fn get_beside(&self, name: Option<&str>, beside: &str, key: &str) -> Option<&str> {
        let name = name.filter(|name| self.0.contains_key(&format!("{name}.{beside}")));
        match name {
            Some(name) => self.0.get(&format!("{name}.{key}")),
            None => self.0.get(key),
        }
        .map(String::as_str)
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of all keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl From<BTreeMap<String, String>> for SecretKeys {
    fn from(keys: BTreeMap<String, String>) -> Self {
        Self(keys)
    }
}

impl FromIterator<(String, String)> for SecretKeys {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(keys: T) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Display for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// Where a source finds its keys. Asked at every request, so that a rotated key reaches mounts that are in use.
pub trait Credentials: Send + Sync {
    /// The keys as they are now.
    fn current(&self) -> Arc<SecretKeys>;
}

/// No keys at all: for anonymous and ambient sources.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn current(&self) -> Arc<SecretKeys> {
        Arc::default()
    }
}

/// Keys that can be replaced while sources use them.
#[derive(Debug, Default)]
pub struct SharedCredentials(ArcSwap<SecretKeys>);

impl SharedCredentials {
    /// Starts with `keys`.
    pub fn new(keys: SecretKeys) -> Self {
        Self(ArcSwap::from_pointee(keys))
    }

    /// Replaces all keys; requests that start from now on use the new ones.
    pub fn replace(&self, keys: SecretKeys) {
        self.0.store(Arc::new(keys));
    }
}

impl Credentials for SharedCredentials {
    fn current(&self) -> Arc<SecretKeys> {
        self.0.load_full()
    }
}

/// Something that is made from the keys, such as a client that trusts `ca.crt`: made again when the keys have changed.
#[derive(Debug)]
pub(crate) struct PerKeys<T>(ArcSwapOption<(Arc<SecretKeys>, T)>);

impl<T: Clone> PerKeys<T> {
    pub(crate) fn new() -> Self {
        Self(ArcSwapOption::empty())
    }

    pub(crate) fn get<E>(&self, keys: Arc<SecretKeys>, make: impl FnOnce(&SecretKeys) -> Result<T, E>) -> Result<T, E> {
        if let Some(made) = &*self.0.load()
            && (Arc::ptr_eq(&made.0, &keys) || made.0 == keys)
        {
            return Ok(made.1.clone());
        }
        let made = make(&keys)?;
        self.0.store(Some(Arc::new((keys, made.clone()))));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> SecretKeys {
        [("AWS_ACCESS_KEY_ID", "common-value"), ("labels.AWS_ACCESS_KEY_ID", "own-value")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect()
    }

    #[test]
    fn own_key_comes_before_the_common_one() {
        assert_eq!(keys().get(Some("labels"), "AWS_ACCESS_KEY_ID"), Some("own-value"));
        assert_eq!(keys().get(Some("clips"), "AWS_ACCESS_KEY_ID"), Some("common-value"));
        assert_eq!(keys().get(None, "AWS_ACCESS_KEY_ID"), Some("common-value"));
        assert_eq!(keys().get(None, "AWS_SECRET_ACCESS_KEY"), None);
    }

    #[test]
    fn one_credential_is_not_mixed_from_two() {
        let mut all = keys();
        all.0.insert("AWS_SESSION_TOKEN".to_owned(), "common-value".to_owned());
        let token = |name| all.get_beside(name, "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN");
        assert_eq!(token(Some("labels")), None);
        assert_eq!(token(Some("clips")), Some("common-value"));
    }

    #[test]
    fn what_is_made_from_keys_is_made_again_with_others() {
        let per_keys = PerKeys::new();
        let count = |keys: SecretKeys| per_keys.get::<()>(Arc::new(keys), |keys| Ok(keys.names().count()));
        assert_eq!((count(keys()), count(SecretKeys::default()), count(keys())), (Ok(2), Ok(0), Ok(2)));
        per_keys.get::<()>(Arc::new(keys()), |_| panic!("the keys are the same")).unwrap();
    }

    #[test]
    fn formatting_shows_names_only() {
        let shared = SharedCredentials::new(keys());
        let text = format!("{:?} {:#?} {} {shared:?}", keys(), keys(), keys());
        assert!(text.contains("labels.AWS_ACCESS_KEY_ID") && !text.contains("value"), "{text}");
    }

    #[test]
    fn replaced_keys_are_seen_at_once() {
        let shared = SharedCredentials::default();
        assert!(shared.current().is_empty());
        shared.replace(keys());
        assert_eq!(*shared.current(), keys());
    }
}
