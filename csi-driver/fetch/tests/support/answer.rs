//! What the server answers.

use std::ops::Range;

use bytes::Bytes;

use super::{
    BUCKET, State, Stored,
    fault::Fault,
    wire::{Answer, Body, Request},
};

pub fn answer(state: &mut State, request: Request) -> Answer {
    state.requests.push(request.clone());
    if let Some((status, location)) = state.redirects.get(&request.path) {
        return respond(*status, vec![("Location".to_owned(), location.clone())], Body::Whole(Bytes::new()));
    }
    let authorization = request.headers.get("authorization");
    if let Some(id) = &state.key_id
        && !authorization.is_some_and(|value| value == id || value.contains(&format!("Credential={id}/")))
    {
        return error(403, "InvalidAccessKeyId");
    }
    let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
    if bucket != BUCKET {
        return error(404, "NoSuchBucket");
    }
    if request.query.contains_key("list-type") {
        return list(state, &request);
    }
    if request.query.contains_key("versions") {
        return versions(state, &request);
    }
    let fault = if request.method == "GET" { state.faults.pop_front() } else { None };
    let fault = fault.unwrap_or(Fault::None);
    match fault {
        Fault::Hang => return Answer::Hang,
        Fault::Close => return Answer::Close,
        Fault::Status(status) => return error(status, "Fault"),
        _ => {}
    }
    let versions = state.objects.get(key).map(Vec::as_slice).unwrap_or_default();
    let found = match request.query.get("versionId") {
        Some(wanted) => versions.iter().find(|stored| stored.version == *wanted),
        None => versions.last(),
    };
    match found {
        Some(stored) => object(state.versioned, stored, &request, fault),
        None => error(404, "NoSuchKey"),
    }
}

fn object(versioned: bool, stored: &Stored, request: &Request, fault: Fault) -> Answer {
    let size = stored.bytes.len();
    let ignored = matches!(fault, Fault::IgnoreCondition);
    if request.headers.get("if-match").is_some_and(|wanted| !ignored && stored.etag.as_ref() != Some(wanted)) {
        return error(412, "PreconditionFailed");
    }
    let wanted = request.headers.get("range").filter(|_| !matches!(fault, Fault::IgnoreRange));
    let mut range = wanted.map(|text| parse_range(text)).unwrap_or(0..size);
    if range.end > size {
        return error(416, "InvalidRange");
    }
    if matches!(fault, Fault::OtherRange) {
        range = if range.start == 0 { 1..range.end } else { range.start - 1..range.end - 1 };
    }
    let total = if matches!(fault, Fault::WrongTotal) { size + 1 } else { size };
    let mut headers = Vec::new();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    match (&fault, &stored.etag) {
        (Fault::WrongETag, _) => add("ETag", "\"other\"".to_owned()),
        (Fault::NoETag, _) | (_, None) => {}
        (_, Some(etag)) => add("ETag", etag.clone()),
    }
    if let Some(time) = &stored.last_modified {
        add("Last-Modified", time.clone());
    }
    if versioned {
        add("x-amz-version-id", stored.version.clone());
    }
    if wanted.is_some() {
        add("Content-Range", format!("bytes {}-{}/{total}", range.start, range.end - 1));
    }
    let bytes = stored.bytes.slice(range.clone());
    let longer = Bytes::from([&bytes[..], b"more"].concat());
    let (length, body) = match fault {
        Fault::ShortBody(given) => (Some(bytes.len()), Body::Cut(bytes.slice(..given))),
        Fault::ShortChunks(given) => (None, Body::Chunked(bytes.slice(..given))),
        Fault::LongChunks => (None, Body::Chunked(longer)),
        Fault::LongBody => (Some(longer.len()), Body::Whole(longer)),
        Fault::WaitInTheMiddle(notify) => (Some(bytes.len()), Body::Halves(bytes, notify)),
        _ => (Some(bytes.len()), Body::Whole(bytes)),
    };
    match length {
        Some(length) => add("Content-Length", length.to_string()),
        None => add("Transfer-Encoding", "chunked".to_owned()),
    }
    respond(if wanted.is_some() { 206 } else { 200 }, headers, body)
}

fn list(state: &mut State, request: &Request) -> Answer {
    if let Some(status) = state.list_faults.pop_front() {
        return error(status, "Fault");
    }
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
    document(200, xml)
}

fn versions(state: &State, request: &Request) -> Answer {
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
    document(200, xml)
}

fn respond(status: u16, mut headers: Vec<(String, String)>, body: Body) -> Answer {
    if let Body::Whole(bytes) = &body
        && !headers.iter().any(|(name, _)| name == "Content-Length")
    {
        headers.push(("Content-Length".to_owned(), bytes.len().to_string()));
    }
    Answer::Respond { status, headers, body }
}

fn document(status: u16, xml: String) -> Answer {
    respond(status, vec![("Content-Type".to_owned(), "application/xml".to_owned())], Body::Whole(xml.into()))
}

fn error(status: u16, code: &str) -> Answer {
    document(status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>hunter2</Message></Error>"))
}

fn parse_range(text: &str) -> Range<usize> {
    let (start, end) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-')).unwrap();
    start.parse().unwrap()..end.parse::<usize>().unwrap() + 1
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
