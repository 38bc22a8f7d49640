//! Regular expressions of the schema. RE2 syntax; the API server shows them when a value does not match.

/// A DNS label, as names of namespaces; at most 63 characters, which the length says.
pub(crate) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A DNS subdomain, as names of most objects; at most 253 characters, which the length says.
pub(crate) const DNS_SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A content address.
pub(crate) const DIGEST: &str = "^sha256:[a-f0-9]{64}$";

/// Name of a type of restriction.
pub(crate) const CAMEL_CASE: &str = "^[A-Z][A-Za-z0-9]*$";

/// A relative path without `.`, `..` or empty parts.
pub(crate) const RELATIVE_PATH: &str =
    concat!(r"^([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+)", r"(/([^/.][^/]*|\.[^/.][^/]*|\.\.[^/]+))*$");
