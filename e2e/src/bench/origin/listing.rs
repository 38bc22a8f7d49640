//! ListObjectsV2, and as much of V1 as peers use.

use std::fmt::Write as _;

use serde::Deserialize;

/// A key and its object's size.
pub(super) type Listed = (String, u64);

const PAGE: usize = 1000;

/// The query of a request to a bucket.
#[derive(Debug, Default, Deserialize)]
pub(super) struct List {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    delimiter: String,
    #[serde(rename = "continuation-token", default)]
    token: String,
    #[serde(rename = "start-after", default)]
    start_after: String,
    #[serde(default)]
    marker: String,
    #[serde(rename = "max-keys")]
    max_keys: Option<usize>,
    location: Option<String>,
}

/// A page of `objects`, which are in byte order, as XML.
pub(super) fn list(objects: &[Listed], query: &List, etag: impl Fn(&str) -> String) -> String {
    if query.location.is_some() {
        return "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>".into();
    }
    let after = [&query.token, &query.marker, &query.start_after].into_iter().find(|one| !one.is_empty());
    let limit = query.max_keys.unwrap_or(PAGE).min(PAGE);
    let (mut contents, mut prefixes) = (String::new(), String::new());
    let (mut count, mut last) = (0, "");
    let mut at = objects.partition_point(|(key, _)| key.as_str() < query.prefix.as_str());
    if let Some(after) = after {
        // Behind a folder comes what is not in it; one of the last page is named with its slash.
        let skips = |key: &str| key <= after.as_str() || (after.ends_with('/') && key.starts_with(after.as_str()));
        at = at.max(objects.partition_point(|(key, _)| skips(key)));
    }
    let more = |at: usize| objects.get(at).filter(|(key, _)| key.starts_with(&query.prefix));
    while count < limit
        && let Some((key, size)) = more(at)
    {
        count += 1;
        let slash = if query.delimiter == "/" { key[query.prefix.len()..].find('/') } else { None };
        // Writing to a String cannot fail.
        if let Some(slash) = slash {
            last = &key[..=query.prefix.len() + slash];
            let _ = write!(prefixes, "<CommonPrefixes><Prefix>{last}</Prefix></CommonPrefixes>");
            at += objects[at..].partition_point(|(key, _)| key.starts_with(last));
        } else {
            last = key;
            let _ = write!(
                contents,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                etag(key)
            );
            at += 1;
        }
    }
    let truncated = more(at).is_some();
    let next = match truncated {
        true => format!("<NextContinuationToken>{last}</NextContinuationToken><NextMarker>{last}</NextMarker>"),
        false => String::new(),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bench</Name><Prefix>{}</Prefix>\
         <KeyCount>{count}</KeyCount><MaxKeys>{limit}</MaxKeys><IsTruncated>{truncated}</IsTruncated>\
         {next}{contents}{prefixes}</ListBucketResult>",
        query.prefix
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Vec<Listed> {
        ["a/1", "a/2", "b/d/1", "b/d/2", "b/x", "c"].iter().map(|key| ((*key).to_owned(), 1)).collect()
    }

    /// All keys and prefixes of all pages.
    fn all(query: List) -> Vec<String> {
        let (mut query, mut found) = (query, Vec::new());
        loop {
            let page = list(&objects(), &query, |_| String::new());
            let between = |begin: &'static str| {
                page.split(begin).skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect::<Vec<_>>()
            };
            found.extend(between("<Key>"));
            found.extend(between("<CommonPrefixes><Prefix>"));
            match between("<NextContinuationToken>").pop() {
                Some(token) => query.token = token,
                None => return found,
            }
        }
    }

    #[test]
    fn pages_have_each_key_once() {
        for size in 1..7 {
            let query = |prefix: &str, delimiter: &str| List {
                prefix: prefix.into(),
                delimiter: delimiter.into(),
                max_keys: Some(size),
                ..List::default()
            };
            assert_eq!(all(query("", "")), ["a/1", "a/2", "b/d/1", "b/d/2", "b/x", "c"], "{size}");
            let mut folders = all(query("", "/"));
            folders.sort();
            assert_eq!(folders, ["a/", "b/", "c"], "{size}");
            assert_eq!(all(query("b/d/", "/")), ["b/d/1", "b/d/2"], "{size}");
        }
        assert!(all(List { prefix: "nothing".into(), ..List::default() }).is_empty());
    }
}
