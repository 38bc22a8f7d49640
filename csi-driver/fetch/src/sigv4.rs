//! AWS Signature Version 4 for requests without a body, made fast: what is the same for a day is computed once.
//!
//! The rules are those of "Signing AWS API requests" in the IAM user guide. A test compares the outcome with that of the
//! library that signs everything else.

use std::{fmt, fmt::Write as _, sync::Arc};

use arc_swap::ArcSwapOption;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use jiff::{Timestamp, tz::Offset};
use reqsign_aws_v4::Credential;
use reqsign_core::SigningCredential as _;
use sha2::{Digest as _, Sha256};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The service takes no digest of the body; ours is empty.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Signs requests to S3 in one region with one credential.
pub(crate) struct Signature {
    credential: Credential,
    region: String,
    day: ArcSwapOption<Day>,
}

/// What depends on nothing but the day.
struct Day {
    date: String,
    scope: String,
    key: Hmac<Sha256>,
}

/// Never shows a key.
impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("region", &self.region).finish_non_exhaustive()
    }
}

/// A key or token that no header can hold.
#[derive(Debug)]
pub(crate) struct Unusable;

impl Signature {
    pub(crate) fn new(region: &str, credential: Credential) -> Self {
        Self { credential, region: region.to_owned(), day: ArcSwapOption::empty() }
    }

    /// Whether it holds for some minutes more.
    pub(crate) fn is_valid(&self) -> bool {
        self.credential.is_valid()
    }

    /// Adds the headers that sign a GET of `uri`, whose path and query are in the canonical encoding already, with all headers
    /// that are there.
    pub(crate) fn sign(&self, uri: &Uri, headers: &mut HeaderMap, now: Timestamp) -> Result<(), Unusable> {
        let time = Offset::UTC.to_datetime(now);
        let date = format!("{:04}{:02}{:02}", time.year(), time.month(), time.day());
        let stamp = format!("{date}T{:02}{:02}{:02}Z", time.hour(), time.minute(), time.second());
        let day = self.day(&date);
        headers.insert(DATE, HeaderValue::from_str(&stamp).map_err(|_| Unusable)?);
        headers.insert(CONTENT, HeaderValue::from_static(UNSIGNED));
        if let Some(token) = &self.credential.session_token {
            headers.insert(TOKEN, sensitive(token)?);
        }

        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let mut signed: Vec<(&str, &str)> = Vec::with_capacity(headers.len() + 1);
        signed.push((header::HOST.as_str(), host));
        for (name, value) in headers.iter() {
            signed.push((name.as_str(), value.to_str().map_err(|_| Unusable)?.trim_matches(' ')));
        }
        signed.sort_unstable();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let mut canonical = String::with_capacity(512);
        // Writing to a String cannot fail.
        let _ = write!(canonical, "GET\n{}\n{}\n", uri.path(), uri.query().unwrap_or_default());
        for (name, value) in &signed {
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let _ = write!(canonical, "\n{names}\n{UNSIGNED}");

        let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{}\n{digest}", day.scope);
        let mac = hex::encode(day.key.clone().chain_update(text.as_bytes()).finalize().into_bytes());
        let id = &self.credential.access_key_id;
        let value = format!("AWS4-HMAC-SHA256 Credential={id}/{}, SignedHeaders={names}, Signature={mac}", day.scope);
        headers.insert(header::AUTHORIZATION, sensitive(&value)?);
        Ok(())
    }

    fn day(&self, date: &str) -> Arc<Day> {
        if let Some(day) = &*self.day.load()
            && day.date == date
        {
            return day.clone();
        }
        let secret = format!("AWS4{}", self.credential.secret_access_key);
        let parts = [date, &self.region, "s3", "aws4_request"];
        let key = parts.into_iter().fold(hmac(secret.as_bytes()), |key, part| {
            hmac(&key.chain_update(part.as_bytes()).finalize().into_bytes())
        });
        let scope = parts.join("/");
        let day = Arc::new(Day { date: date.to_owned(), scope, key });
        self.day.store(Some(day.clone()));
        day
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn sensitive(text: &str) -> Result<HeaderValue, Unusable> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Unusable)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use reqsign_aws_v4::RequestSigner;
    use reqsign_core::{Context, SignRequest as _};

    use super::*;

    fn credential(token: Option<&str>) -> Credential {
        Credential {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: token.map(str::to_owned),
            expires_in: None,
        }
    }

    #[tokio::test]
    async fn signs_as_the_library_does() {
        for (uri, token, pairs) in [
            ("https://b.s3.eu-west-1.amazonaws.com/p/a%20b%2Bc/%C3%BC", None, &[("range", "bytes=0-9")][..]),
            ("http://127.0.0.1:9000/b/k?versionId=a%2Bb", Some("token/+="), &[("if-match", "\"e\""), ("range", "x")]),
            ("https://h/b/%21%2A%27%28%29~-._", Some("t"), &[("if-match", " \"e f\" ")]),
        ] {
            let ours = Signature::new("eu-west-1", credential(token));
            let library = RequestSigner::new("s3", "eu-west-1");
            let mut request = http::Request::get(uri);
            for (name, value) in pairs {
                request = request.header(*name, *value);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            // The library takes the time of the moment: ours is compared when it was the same second before and after.
            let (theirs, now) = loop {
                let (mut theirs, before) = (parts.clone(), Timestamp::now());
                library.sign_request(&Context::new(), &mut theirs, Some(&credential(token)), None).await.unwrap();
                if Timestamp::now().as_second() == before.as_second() {
                    break (theirs, before);
                }
            };
            let mut headers = parts.headers.clone();
            ours.sign(&parts.uri, &mut headers, now).unwrap();
            let mut expected = theirs.headers;
            expected.remove(header::HOST);
            assert_eq!(headers[header::AUTHORIZATION], expected[header::AUTHORIZATION], "{uri}");
            assert_eq!(headers, expected, "{uri}");
        }
    }

    #[test]
    fn another_day_has_another_key() {
        let signature = Signature::new("r", credential(None));
        let (first, next) = (signature.day("20240501").key.clone(), signature.day("20240502").key.clone());
        assert_ne!(first.finalize().into_bytes(), next.finalize().into_bytes());
        assert_eq!(signature.day("20240501").scope, "20240501/r/s3/aws4_request");
    }

    #[test]
    fn what_no_header_can_hold_is_an_error_and_keys_are_never_shown() {
        let signature = Signature::new("r", credential(Some("hunter2\n")));
        assert!(signature.sign(&Uri::from_static("http://h/k"), &mut HeaderMap::new(), Timestamp::now()).is_err());
        let text = format!("{signature:?}");
        assert!(!text.contains("hunter2") && !text.contains("EXAMPLE"), "{text}");
    }
}
