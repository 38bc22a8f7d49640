//! Reads of S3 objects without OpenDAL: the request is named and signed here.
//!
//! OpenDAL costs 20 us of CPU for each request (its layers, two signers' copies of the head, an error about the answer that it
//! does not see), which is as much as hyper needs for a whole object of 100 KB. It still names the service, finds the machine's
//! credentials, lists, and reads from what needs more than a signature, as directory buckets do.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use granary_image::PinKind;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aws_v4::Credential;
use reqsign_core::{Context, ProvideCredential};

use crate::{SourceError, checksum, sigv4::Signature, verify::Wanted};

/// What the canonical form of a path leaves as it is, besides letters and digits.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
const QUERY: &AsciiSet = &PATH.add(b'/');

/// Makes requests for objects of one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    /// The URL of a key is this and the key.
    base: Arc<str>,
    signer: Signer,
}

/// Who signs.
#[derive(Clone, Debug)]
pub(crate) enum Signer {
    Nobody,
    /// Empty until the machine's credentials are known.
    Keys(Arc<ArcSwapOption<Signature>>),
}

impl Direct {
    pub(crate) fn new(base: String, signer: Signer) -> Self {
        Self { base: base.into(), signer }
    }

    /// The request for what is wanted of the object at `path`. `None` when there is no valid credential: OpenDAL then gets one.
    pub(crate) fn request(
        &self,
        uri: &str,
        path: &str,
        wanted: &Wanted,
    ) -> Result<Option<Request<Bytes>>, SourceError> {
        let signature = match &self.signer {
            Signer::Nobody => None,
            Signer::Keys(keys) => match keys.load_full().filter(|signature| signature.is_valid()) {
                Some(signature) => Some(signature),
                None => return Ok(None),
            },
        };
        let invalid = |what: &str| SourceError::invalid(uri, format!("no request can be made of it ({what})"));
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.uri_of(path, wanted).map_err(|_| invalid("the key is too long"))?;
        let mut headers = HeaderMap::with_capacity(8);
        if wanted.is_whole() {
            // Of what is asked for as a range, no checksum is stated.
            checksum::ask(&mut headers);
        } else {
            let range = HeaderValue::from_str(&wanted.range_header()).map_err(|_| invalid("no such range"))?;
            headers.insert(header::RANGE, range);
        }
        if wanted.pin.kind == PinKind::ETag {
            let tag = HeaderValue::from_str(&wanted.pin.value).map_err(|_| invalid("no such entity tag"))?;
            headers.insert(header::IF_MATCH, tag);
        }
        if let Some(signature) = signature {
            let signed = signature.sign(request.uri(), &mut headers, Timestamp::now());
            signed.map_err(|_| invalid("the keys have a character that no header can hold"))?;
        }
        *request.headers_mut() = headers;
        Ok(Some(request))
    }

    fn uri_of(&self, path: &str, wanted: &Wanted) -> Result<Uri, http::uri::InvalidUri> {
        let mut text = String::with_capacity(self.base.len() + path.len() + 64);
        text.push_str(&self.base);
        text.extend(utf8_percent_encode(path, PATH));
        if wanted.pin.kind == PinKind::VersionId {
            text.push_str("?versionId=");
            text.extend(utf8_percent_encode(&wanted.pin.value, QUERY));
        }
        Uri::try_from(text)
    }
}

/// Finds credentials and remembers them, for requests that OpenDAL does not make.
#[derive(Debug)]
pub(crate) struct Remembering<P> {
    pub(crate) provider: P,
    pub(crate) region: String,
    pub(crate) found: Arc<ArcSwapOption<Signature>>,
}

impl<P: ProvideCredential<Credential = Credential>> ProvideCredential for Remembering<P> {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> reqsign_core::Result<Option<Credential>> {
        let credential = self.provider.provide_credential(context).await?;
        let signature = credential.clone().map(|credential| Arc::new(Signature::new(&self.region, credential)));
        self.found.store(signature);
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use granary_image::Pin;
    use reqsign_aws_v4::StaticCredentialProvider;

    use super::*;

    /// OpenDAL makes requests as long as no credential is known, and when the known one is about to end.
    #[tokio::test]
    async fn keys_of_the_machine_are_used_once_they_are_known_and_while_they_hold() {
        let found = Arc::default();
        let direct = Direct::new("http://h/b/".to_owned(), Signer::Keys(Arc::clone(&found)));
        let pin = Pin { kind: PinKind::ETag, value: "\"e\"".to_owned() };
        let wanted = Wanted { key: "k".to_owned(), pin, size: 10, range: 0..5 };
        let request = || direct.request("s3://b/", "k", &wanted).unwrap();
        assert!(request().is_none());
        let provider = StaticCredentialProvider::new("AKID", "secret");
        let provider = Remembering { provider, region: "r".to_owned(), found: Arc::clone(&found) };
        let credential = provider.provide_credential(&Context::new()).await.unwrap().unwrap();
        assert!(request().unwrap().headers().contains_key(header::AUTHORIZATION));
        let ends = Credential { expires_in: Some(reqsign_core::time::Timestamp::now()), ..credential };
        found.store(Some(Arc::new(Signature::new("r", ends))));
        assert!(request().is_none());
    }
}
