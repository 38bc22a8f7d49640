//! The CEL rules of the API and their sentences, one function each. The numbers are those of the design.
//!
//! A rule that may see a credential sits on the parent with a field path: the API server then leaves the value out of its message.

use kube::core::Rule;

use crate::names::DATASET_NAME_MAX;
use crate::patterns;

/// R1: the name of a Dataset.
pub(crate) fn dataset_name() -> Rule {
    Rule::new(format!(
        "self.metadata.name.size() <= {DATASET_NAME_MAX} && self.metadata.name.matches('{}')",
        patterns::DNS_LABEL
    ))
    .message(
        "`metadata.name` must have at most 52 lower-case letters, digits and '-': it names the claim, its versions and its jobs",
    )
}

/// R2: where the sources of a Dataset appear.
pub(crate) fn separate_paths() -> Rule {
    Rule::new(
        "self.all(a, self.filter(b, (has(a.path) ? a.path + '/' : '').startsWith(has(b.path) ? b.path + '/' : '') \
         || (has(b.path) ? b.path + '/' : '').startsWith(has(a.path) ? a.path + '/' : '')).size() == 1)",
    )
    .message(
        "with several sources each must have its own `path`, and no `path` may lie inside another, such as 'train' and 'labels'",
    )
}

/// R3: names of the sources of a Dataset.
pub(crate) fn different_names() -> Rule {
    Rule::new("self.all(a, !has(a.name) || self.filter(b, has(b.name) && a.name == b.name).size() == 1)")
        .message("each `name` must be different")
}

/// R4: the scheme of a source.
pub(crate) fn known_scheme() -> Rule {
    Rule::new("self.uri.matches('^((s3|https?)://[^/]|file:///)')")
        .message("must start with 's3://<bucket>', 'https://<host>', 'http://<host>' or 'file:///'")
        .field_path(".uri")
}

/// R5: no user and password in a URI.
pub(crate) fn no_credentials() -> Rule {
    Rule::new("!self.uri.matches('^[a-z0-9]+://[^/]*@')")
        .message("must not contain credentials: put them into a Secret and name it in `spec.credentials.secretRef`")
        .field_path(".uri")
}

/// R6: no query, which may sign the URL.
pub(crate) fn no_query() -> Rule {
    Rule::new("!self.uri.matches('^https?://[^?#]*[?#]')")
        .message("must not contain '?' or '#': a signed URL is a credential")
        .field_path(".uri")
}

/// R7: a relative path. The pattern is that of [`patterns::RELATIVE_PATH`], as a CEL string.
pub(crate) fn relative_path() -> Rule {
    let pattern = patterns::RELATIVE_PATH.replace('\\', r"\\");
    Rule::new(format!("self.matches('{pattern}')"))
        .message("must be a relative path such as 'train/images', without '.', '..' or empty parts")
}

/// R8: identities are for sources behind a network.
pub(crate) fn identity_has_network() -> Rule {
    Rule::new("!has(self.identity) || !self.uri.startsWith('file://')")
        .message("`identity` may not be specified when `uri` starts with 'file://'")
}

/// R9, first half: options of s3 sources.
pub(crate) fn s3_for_s3() -> Rule {
    Rule::new("!has(self.s3) || self.uri.startsWith('s3://')")
        .message("`s3` may only be specified when `uri` starts with 's3://'")
}

/// R9, second half: options of http sources.
pub(crate) fn http_for_directories() -> Rule {
    Rule::new("!has(self.http) || self.uri.matches('^https?://.*/$')")
        .message("`http` may only be specified when `uri` starts with 'http://' or 'https://' and ends with '/'")
}

/// R10: the endpoint of an S3 service.
pub(crate) fn endpoint() -> Rule {
    Rule::new("!has(self.endpoint) || self.endpoint.matches('^https?://[^/@?#]+/?$')")
        .message("must be 'https://<host>[:<port>]' or 'http://<host>[:<port>]', without path or credentials")
        .field_path(".endpoint")
}

/// R11: the union of credentials.
pub(crate) fn credentials_union() -> Rule {
    Rule::new("has(self.secretRef)").message("must have `secretRef`")
}

/// R12: the Secret is written into a volume, which cannot change.
pub(crate) fn fixed_secret() -> Rule {
    let secret = |object: &str| {
        format!(
            "(has({object}.spec.credentials) && has({object}.spec.credentials.secretRef) \
             ? {object}.spec.credentials.secretRef.name : '')"
        )
    };
    Rule::new(format!(
        "!has(oldSelf.status) || !has(oldSelf.status.claim) || {} == {}",
        secret("self"),
        secret("oldSelf")
    ))
    .message(
        "`spec.credentials.secretRef` must not change once the claim exists: put the new keys into the same Secret, \
         or create another Dataset",
    )
    .field_path(".spec.credentials.secretRef")
}

fn fixed(advice: &str) -> Rule {
    Rule::new("self == oldSelf").message(format!("must not change: {advice}").as_str())
}

/// R13: the class of a Dataset.
pub(crate) fn fixed_class() -> Rule {
    fixed("create another Dataset for another class")
}

/// R15: the union of pins.
pub(crate) fn pin_union() -> Rule {
    Rule::new("has(self.version) != has(self.digest)").message("must have exactly one of `version` and `digest`")
}

/// R16: versions.
pub(crate) fn fixed_version() -> Rule {
    fixed("a version is immutable")
}

/// R17: the directory of a class.
pub(crate) fn fixed_cache_path() -> Rule {
    Rule::new("(has(self.path) ? self.path : '') == (has(oldSelf.path) ? oldSelf.path : '')")
        .message("`path` must not change: create another class")
}

/// R18, first half: the size of a cache.
pub(crate) fn cache_size() -> Rule {
    Rule::new("quantity(string(self)).compareTo(quantity('64Mi')) >= 0")
        .message("must be at least 64Mi, such as '500Gi'")
}

/// R18, second half: free space.
pub(crate) fn free_size() -> Rule {
    Rule::new("quantity(string(self)).compareTo(quantity('0')) >= 0")
        .message("must be greater than or equal to 0, such as '20Gi'")
}

/// R19: a network.
pub(crate) fn network() -> Rule {
    Rule::new("isCIDR(self)").message("must be a network such as '10.0.0.0/8'")
}

/// R20: what a grant grants.
pub(crate) fn fixed_grant() -> Rule {
    fixed("create another grant")
}

/// R21: the namespace of a subject; `namespace` is a reserved word of CEL, and so escaped.
pub(crate) fn subject_namespace() -> Rule {
    Rule::new("(self.kind == 'ServiceAccount') == has(self.__namespace__)")
        .message("a ServiceAccount must have `namespace`, a Namespace must not: its name is `name`")
}
