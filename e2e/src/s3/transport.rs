//! How OpenDAL sends its requests here: plainly, by one client, to a server on this machine.

use std::error::Error as StdError;

use futures::stream;
use http::{Request, Response};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter};

/// Makes this the way for all OpenDAL operators of the process that were not given another.
pub(super) fn install() {
    // Another caller may have chosen one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    HttpTransporter::install_default(Plain(reqwest::Client::new()));
}

struct Plain(reqwest::Client);

impl HttpTransport for Plain {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let request = self.0.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body.to_bytes());
        let response = request.send().await.map_err(temporary)?;
        let (status, headers) = (response.status(), response.headers().clone());
        // Whole, since tests read little; what is large is read in pieces by whoever reads it.
        let bytes = response.bytes().await.map_err(temporary)?;
        let length = bytes.len() as u64;
        let body = stream::iter((length > 0).then(|| Ok(Buffer::from(bytes))));
        let mut answer = Response::new(HttpBody::new(body, Some(length)));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

fn temporary(error: reqwest::Error) -> Error {
    let text = error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    Error::new(ErrorKind::Unexpected, text).set_temporary()
}
