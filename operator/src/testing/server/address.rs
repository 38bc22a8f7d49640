//! What a path of the API means.

/// A collection, or an object in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Such as `/apis/batch/v1/jobs`, without the namespace.
    pub(super) collection: String,
    /// Empty for kinds of the cluster, and for all namespaces.
    pub(super) namespace: String,
    /// Empty for the collection.
    pub(super) name: String,
    /// Whether only the status is meant.
    pub(super) is_status: bool,
}

impl Address {
    pub(super) fn parse(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = parts.split_at(if parts[0] == "api" { 2 } else { 3 });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        Self {
            collection: format!("/{}/{}", group.join("/"), rest[0]),
            namespace: namespace.to_owned(),
            name: rest.get(1).copied().unwrap_or_default().to_owned(),
            is_status: rest.get(2) == Some(&"status"),
        }
    }
}

#[test]
fn paths_are_understood() {
    for (path, collection, namespace, name, is_status) in [
        ("/api/v1/namespaces/a", "/api/v1/namespaces", "", "a", false),
        ("/api/v1/namespaces/a/pods", "/api/v1/pods", "a", "", false),
        ("/apis/batch/v1/jobs", "/apis/batch/v1/jobs", "", "", false),
        ("/apis/batch/v1/namespaces/a/jobs/j/status", "/apis/batch/v1/jobs", "a", "j", true),
    ] {
        let (collection, namespace, name) = (collection.to_owned(), namespace.to_owned(), name.to_owned());
        assert_eq!(Address::parse(path), Address { collection, namespace, name, is_status });
    }
}
