//! The one place where a source's URI is parsed. A further scheme is one entry of [`SCHEMES`].

use std::path::{Path, PathBuf};

use url::Url;

use crate::SourceError;

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A bucket and what it holds below a prefix, or one object of it.
    S3 { bucket: String, place: Place },
    /// One file, or a directory when the path ends with '/'.
    Http { url: Url, directory: bool },
    /// A file or directory of this machine.
    File { path: PathBuf },
}

/// What an object store's URI names. Keys are literal: nothing is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Everything whose key starts with this; empty, or with '/' at the end.
    Prefix(String),
    /// The object of this key.
    Object(String),
}

/// Gets what follows `scheme://`; an error is a sentence that says what to write.
type Parse = fn(scheme: &str, rest: &str) -> Result<Location, String>;

const SCHEMES: &[(&str, Parse)] = &[("s3", s3), ("http", http), ("https", http), ("file", file)];

impl Location {
    pub(crate) fn parse(uri: &str) -> Result<Self, SourceError> {
        let error = |message: String| SourceError::invalid(&redacted(uri), message);
        let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
        let Some((_, parse)) = SCHEMES.iter().find(|(known, _)| *known == scheme) else {
            let known: Vec<_> = SCHEMES.iter().map(|(known, _)| format!("'{known}://'")).collect();
            return Err(error(format!("it must start with one of {}", known.join(", "))));
        };
        if authority(rest).contains('@') {
            let advice =
                "it must not contain credentials: put them into a Secret and name it in spec.credentials.secretRef";
            return Err(error(advice.to_owned()));
        }
        if uri.contains('\0') {
            return Err(error("it must not contain a NUL character".to_owned()));
        }
        parse(scheme, rest).map_err(error)
    }

    /// The name of the object itself, when the URI names one; for `file://` also when it is a directory's.
    pub(crate) fn object_name(&self) -> Option<String> {
        match self {
            Self::S3 { place: Place::Object(key), .. } => key.rsplit('/').next().map(str::to_owned),
            Self::S3 { place: Place::Prefix(_), .. } => None,
            Self::Http { url, directory } => {
                let segment = url.path_segments()?.next_back().filter(|_| !directory)?;
                Some(percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned())
            }
            Self::File { path } => path.file_name().map(|name| name.to_string_lossy().into_owned()),
        }
    }
}

/// Whether a part of the key would mean another place to whoever resolves it as a path.
pub(crate) fn has_dot_segments(key: &str) -> bool {
    key.split('/').any(|part| part == "." || part == "..")
}

fn s3(_: &str, rest: &str) -> Result<Location, String> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if bucket.is_empty() || bucket.starts_with('.') || !bucket.bytes().all(valid) {
        return Err("after 's3://' must come the bucket's name, such as 's3://bucket/prefix/'".to_owned());
    }
    if key.starts_with('/') || has_dot_segments(key) {
        return Err("the prefix must not start with '/' and have no part '.' or '..'".to_owned());
    }
    let place = if key.is_empty() || key.ends_with('/') {
        Place::Prefix(key.to_owned())
    } else {
        Place::Object(key.to_owned())
    };
    Ok(Location::S3 { bucket: bucket.to_owned(), place })
}

fn http(scheme: &str, rest: &str) -> Result<Location, String> {
    if rest.contains(['?', '#']) {
        return Err("it must not contain '?' or '#': a signed URL is a credential".to_owned());
    }
    let example = "it must be such as 'https://host/file' or 'https://host/dir/'";
    // The parser would take "https:///host" for "https://host".
    if rest.starts_with(['/', '\\']) {
        return Err(example.to_owned());
    }
    let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|error| format!("{example} ({error})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not contain credentials".to_owned());
    }
    let directory = url.path().ends_with('/');
    Ok(Location::Http { url, directory })
}

fn file(_: &str, rest: &str) -> Result<Location, String> {
    if !rest.starts_with('/') || has_dot_segments(rest) {
        return Err("it must be such as 'file:///dir', with an absolute path that has no part '.' or '..'".to_owned());
    }
    Ok(Location::File { path: Path::new(rest).components().collect() })
}

fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The URI without what could be a credential, for messages about URIs that were refused.
fn redacted(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let host_end = authority(rest).len();
    let host_start = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{}", &rest[host_start..end.max(host_start)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s3_at(bucket: &str, place: Place) -> Location {
        Location::S3 { bucket: bucket.to_owned(), place }
    }

    #[test]
    fn s3_keys_are_literal() {
        let object = |key: &str| Place::Object(key.to_owned());
        let prefix = |key: &str| Place::Prefix(key.to_owned());
        for (uri, place) in [
            ("s3://b", prefix("")),
            ("s3://b/", prefix("")),
            ("s3://b/p/", prefix("p/")),
            ("s3://b/p", object("p")),
            ("s3://b/p/q%20r?s#t@u", object("p/q%20r?s#t@u")),
            ("s3://b/p//q/", prefix("p//q/")),
        ] {
            assert_eq!(Location::parse(uri).unwrap(), s3_at("b", place), "{uri}");
        }
    }

    #[test]
    fn names_the_object_itself() {
        for (uri, name) in [
            ("s3://b/p/q.bin", Some("q.bin")),
            ("s3://b/p/", None),
            ("https://h/d/a%20b", Some("a b")),
            ("https://h/d/", None),
            ("https://h", None),
            ("file:///d/e", Some("e")),
        ] {
            assert_eq!(Location::parse(uri).unwrap().object_name().as_deref(), name, "{uri}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for uri in [
            "",
            "s3",
            "s3:/b",
            "s3://",
            "s3:///k",
            "s3://b c/",
            "s3://.b/",
            "s3://b//k",
            "s3://b/a/../b",
            "ftp://h/",
            "S3://b/",
            "https://",
            "https:///h/f",
            "http://h:99999/",
            "https://h/f?sig=x",
            "https://h/f#x",
            "file://host/d",
            "file:d",
            "file:///a/../b",
            "file:///a\0b",
        ] {
            assert!(Location::parse(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        for uri in [
            "s3://AKIA:hunter2@bucket/p",
            "https://user:hunter2@host/f",
            "https://hunter2@host",
            "http://host/f?X-Amz-Signature=hunter2",
            "ftp://user:hunter2@host/",
            "user:hunter2@host/x",
            "https://host/f#hunter2",
            "https://host\\@hunter2@x/",
        ] {
            let error = Location::parse(uri).unwrap_err();
            assert_eq!(error.reason(), "SourceInvalid");
            assert!(!format!("{error} {error:?}").contains("hunter2@"), "{error}");
            assert!(!error.to_string().contains("=hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(uri in "\\PC*") {
            let _ = Location::parse(&uri);
        }

        #[test]
        fn never_panics_behind_a_scheme(scheme in "(s3|https?|file|x)", rest in "[a@:/?#.%\\\\\\[\\]é\0 -]{0,24}") {
            if let Ok(location) = Location::parse(&format!("{scheme}://{rest}")) {
                let _ = location.object_name();
                prop_assert!(!authority(&rest).contains('@'));
            }
        }
    }
}
