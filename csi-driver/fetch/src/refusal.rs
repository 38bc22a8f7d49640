//! What an answer that is no success means.

use http::{Response, StatusCode};

use crate::{SourceError, client::Body, transport::Transport};

/// Most that is read of a refusal's body.
const MAX_BODY: usize = 64 << 10;

/// Reads a refusal and says what it means for `key`; `None` is a request about the whole source.
pub(crate) async fn refusal(transport: &Transport, key: Option<&str>, response: Response<Body>) -> SourceError {
    let status = response.status();
    let region = response.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok()).and_then(word);
    let code = error_code(response.into_body()).await;
    transport.slowdowns().refused(status, code.as_deref());
    let detail = match &code {
        Some(code) => format!("HTTP {} {code}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    };
    classify(transport.uri(), key, status, code.as_deref(), detail, region)
}

fn classify(
    uri: &str,
    key: Option<&str>,
    status: StatusCode,
    code: Option<&str>,
    detail: String,
    region: Option<String>,
) -> SourceError {
    let owned = uri.to_owned();
    let elsewhere = |detail: String| match region {
        Some(region) => {
            SourceError::invalid(uri, format!("the bucket is in another region: set s3.region to '{region}'"))
        }
        None => SourceError::invalid(uri, format!("it is somewhere else ({detail}): check the endpoint and s3.region")),
    };
    match (code, status.as_u16()) {
        (Some("NoSuchBucket"), _) => SourceError::BucketNotFound { uri: owned },
        (Some("SlowDown" | "RequestTimeout" | "ServiceUnavailable" | "InternalError"), _) => {
            SourceError::Unavailable { uri: owned, detail }
        }
        (
            Some(
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
            ),
            _,
        )
        | (_, 300..=399) => elsewhere(detail),
        (
            Some(
                "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "InvalidAccessKeyId"
                | "SignatureDoesNotMatch",
            ),
            _,
        )
        | (_, 401 | 403) => SourceError::CredentialsRejected { uri: owned, detail },
        (_, 404 | 410) => match key {
            Some(key) => SourceError::ObjectNotFound { uri: owned, key: key.to_owned() },
            None => SourceError::BucketNotFound { uri: owned },
        },
        (_, 412 | 416) => SourceError::ObjectChanged { uri: owned, key: key.unwrap_or_default().to_owned(), detail },
        (_, 408 | 425 | 429 | 499..) => SourceError::Unavailable { uri: owned, detail },
        _ => SourceError::invalid(uri, format!("it refused the request ({detail}): check the endpoint and s3.region")),
    }
}

/// The `<Code>` of an S3 error document. The rest of the document is not used: it can repeat what was sent.
async fn error_code(mut answer: Body) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - body.len())]);
        if body.len() == MAX_BODY {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body);
    let (_, after) = text.split_once("<Code>")?;
    word(after.split_once("</Code>")?.0)
}

/// The text, if it is a short word that cannot be anything else.
fn word(text: &str) -> Option<String> {
    let plain = text.len() <= 64 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_codes_have_reasons() {
        for (status, code, reason) in [
            (404, None, "ObjectNotFound"),
            (404, Some("NoSuchVersion"), "ObjectNotFound"),
            (404, Some("NoSuchBucket"), "BucketNotFound"),
            (412, Some("PreconditionFailed"), "ObjectChanged"),
            (416, None, "ObjectChanged"),
            (403, Some("AccessDenied"), "CredentialsRejected"),
            (401, None, "CredentialsRejected"),
            (400, Some("ExpiredToken"), "CredentialsRejected"),
            (400, Some("AuthorizationHeaderMalformed"), "SourceInvalid"),
            (301, None, "SourceInvalid"),
            (400, None, "SourceInvalid"),
            (429, None, "SourceUnavailable"),
            (500, None, "SourceUnavailable"),
            (503, Some("SlowDown"), "SourceUnavailable"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = classify("s3://b/", Some("k"), status, code, format!("HTTP {status}"), None);
            assert_eq!(error.reason(), reason, "{status} {code:?}");
        }
    }
}
