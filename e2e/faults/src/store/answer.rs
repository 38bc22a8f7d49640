//! What the store answers.

use std::ops::Range;

use bytes::Bytes;

use super::{BUCKET, State, Stored};
use crate::reply::{Length, Reply};
use crate::wire::Request;

pub(super) fn answer(state: &mut State, request: Request) -> Reply {
    state.requests.push(request.clone());
    if let Some((status, location)) = state.redirects.get(&request.path) {
        return Reply::new(*status, vec![("Location".to_owned(), location.clone())], Bytes::new());
    }
    let authorization = request.headers.get("authorization");
    if let Some(id) = &state.key_id
        && !authorization.is_some_and(|value| value == id || value.contains(&format!("Credential={id}/")))
    {
        return Reply::error(403, "InvalidAccessKeyId");
    }
    let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
    if bucket != BUCKET {
        return Reply::error(404, "NoSuchBucket");
    }
    if request.query.contains_key("list-type") {
        return list(state, &request);
    }
    if request.query.contains_key("versions") {
        return versions(state, &request);
    }
    let versions = state.objects.get(key).map(Vec::as_slice).unwrap_or_default();
    let found = match request.query.get("versionId") {
        Some(wanted) => versions.iter().find(|stored| stored.version == *wanted),
        None => versions.last(),
    };
    match found {
        Some(stored) => object(state.versioned, stored, &request),
        None => Reply::error(404, "NoSuchKey"),
    }
}

fn object(versioned: bool, stored: &Stored, request: &Request) -> Reply {
    let size = stored.bytes.len();
    if request.headers.get("if-match").is_some_and(|wanted| stored.etag.as_ref() != Some(wanted)) {
        return Reply::error(412, "PreconditionFailed");
    }
    let range = request.headers.get("range").map(|text| parse_range(text));
    let Some(range) = range.unwrap_or(Some(0..size)).filter(|range| range.end <= size && range.start <= range.end)
    else {
        return Reply::error(416, "InvalidRange");
    };
    let mut headers = Vec::new();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    if let Some(etag) = &stored.etag {
        add("ETag", etag.clone());
    }
    if let Some(time) = &stored.last_modified {
        add("Last-Modified", time.clone());
    }
    if versioned {
        add("x-amz-version-id", stored.version.clone());
    }
    let is_part = request.headers.contains_key("range");
    if is_part {
        add("Content-Range", format!("bytes {}-{}/{size}", range.start, range.end - 1));
    } else if request.headers.get("x-amz-checksum-mode").is_some_and(|mode| mode == "ENABLED") {
        stored.checksums.iter().for_each(|(name, value)| add(name, value.clone()));
    }
    let mut reply = Reply::new(if is_part { 206 } else { 200 }, headers, stored.bytes.slice(range));
    if request.method == "HEAD" {
        reply.length = Length::Announced(size);
    }
    reply
}

fn list(state: &State, request: &Request) -> Reply {
    let prefix = request.query.get("prefix").map(String::as_str).unwrap_or_default();
    let after = request.query.get("continuation-token").map(String::as_str).unwrap_or_default();
    let all: Vec<_> = state.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after).collect();
    let page = &all[..all.len().min(state.page)];
    let mut xml = String::from("<ListBucketResult>");
    for (key, versions) in page {
        let Some(stored) = versions.last() else { continue };
        xml += &format!(
            "<Contents><Key>{}</Key><LastModified>2024-05-01T10:00:00.000Z</LastModified>{}<Size>{}</Size></Contents>",
            escape(key),
            stored.etag.as_ref().map(|etag| format!("<ETag>{}</ETag>", escape(etag))).unwrap_or_default(),
            stored.bytes.len()
        );
    }
    let truncated = page.len() < all.len();
    xml += &format!("<IsTruncated>{truncated}</IsTruncated>");
    if let (true, Some((key, _))) = (truncated && !state.loses_token, page.last()) {
        xml += &format!("<NextContinuationToken>{}</NextContinuationToken>", escape(key));
    }
    xml += "</ListBucketResult>";
    Reply::document(200, xml)
}

fn versions(state: &State, request: &Request) -> Reply {
    let prefix = request.query.get("prefix").map(String::as_str).unwrap_or_default();
    let mut xml = String::from("<ListVersionsResult><IsTruncated>false</IsTruncated>");
    for (key, versions) in state.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        for (number, stored) in versions.iter().enumerate().rev() {
            xml += &format!(
                "<Version><Key>{}</Key><VersionId>{}</VersionId><IsLatest>{}</IsLatest>\
                 <LastModified>2024-05-01T10:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Version>",
                escape(key),
                stored.version,
                number + 1 == versions.len(),
                escape(stored.etag.as_deref().unwrap_or_default()),
                stored.bytes.len()
            );
        }
    }
    xml += "<DeleteMarker><Key>p/deleted</Key><VersionId>d</VersionId><IsLatest>true</IsLatest>\
            <LastModified>2024-05-01T10:00:00.000Z</LastModified></DeleteMarker></ListVersionsResult>";
    Reply::document(200, xml)
}

fn parse_range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-'))?;
    Some(start.parse().ok()?..end.parse::<usize>().ok()? + 1)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
