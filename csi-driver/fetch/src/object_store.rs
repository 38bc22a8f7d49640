//! Listing and reading through any HTTP service of OpenDAL.
//!
//! OpenDAL's service is used below its operator: the operator normalises paths (it trims spaces and joins slashes), and keys
//! are literal here. Reads are made by ourselves where we can (see `direct`). Else a read's request is caught when OpenDAL has
//! signed it, and sent by ourselves (see `transport`).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, stream};
use granary_image::{Pin, PinKind};
use http::{Request, Response};
use opendal::{
    Buffer, BytesRange, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Metadata, OperationContext,
    options::{ListOptions, ReadOptions, StatOptions},
    raw::{OpList, OpRead, OpReader, OpStat, Operation, Servicer},
};

use crate::{
    ByteStream, Listed, PinBy, SourceError, client::Body, direct::Direct, patience::patiently, refusal::refusal,
    transport::Transport, verify::Wanted,
};

/// Largest answer to a request about many objects. A page of 1,000 keys of 1,024 bytes has under 2 MiB.
const MAX_ANSWER: usize = 32 << 20;
/// Longest text in it. A key has at most 1,024 bytes, each at most six when escaped; OpenDAL panics beyond 64 KiB.
const MAX_TEXT: usize = 16 << 10;

/// A service with the keys that it signs with, and how its requests are sent.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) service: Servicer,
    /// Makes reads without the service, where that is possible.
    pub(crate) direct: Option<Direct>,
    pub(crate) transport: Transport,
    /// For requests that get the machine's own credentials.
    pub(crate) machine: Option<Transport>,
}

impl Signed {
    /// All objects below `prefix`, page by page.
    pub(crate) fn list(
        self: Arc<Self>,
        prefix: String,
        pin_by: PinBy,
    ) -> impl Stream<Item = Result<Listed, SourceError>> + Send + 'static {
        // With `deleted` OpenDAL lists versions, but of each key only the latest.
        let options = ListOptions { recursive: true, deleted: pin_by == PinBy::VersionID, ..Default::default() };
        let path = if prefix.is_empty() { "/" } else { &prefix };
        let context = self.context(None);
        let lister = self.service.list_dyn(&context, path, OpList::from(options)).map_err(|error| self.failure(error));
        let first = None::<String>;
        stream::try_unfold((lister, prefix, first, self), move |(lister, prefix, mut first, signed)| async move {
            let mut lister = lister?;
            loop {
                let Some(entry) = lister.next_dyn().await.map_err(|error| signed.failure(error))? else {
                    return Ok(None);
                };
                let (path, metadata) = entry.into_parts();
                let Some(key) = path.strip_prefix(&prefix) else {
                    return Err(signed
                        .transport
                        .unavailable("the listing has a key that does not start with the prefix"));
                };
                // The key that is the prefix itself marks the directory; it is no object below it.
                if key.is_empty() || metadata.is_deleted() {
                    continue;
                }
                // Some servers say that there is more and do not say where; the listing would start again for ever.
                match &first {
                    Some(first) if first == key => {
                        return Err(signed.transport.unavailable("the listing starts again before its end"));
                    }
                    Some(_) => {}
                    None => first = Some(key.to_owned()),
                }
                let listed = listed(key.to_owned(), &metadata, pin_by);
                return Ok(Some((listed, (Ok(lister), prefix, first, signed))));
            }
        })
    }

    /// The one object that the URI names.
    pub(crate) async fn stat(self: Arc<Self>, key: &str, pin_by: PinBy) -> Result<Listed, SourceError> {
        let context = self.context(None);
        let found = self.service.stat_dyn(&context, key, OpStat::from(StatOptions::default())).await;
        let metadata = found.map_err(|error| self.failure(error))?.into_metadata();
        Ok(listed(String::new(), &metadata, pin_by))
    }

    /// Reads from the object at `path`; `wanted.key` is for messages.
    pub(crate) async fn read(&self, path: &str, wanted: Wanted) -> Result<ByteStream, SourceError> {
        let direct =
            self.direct.as_ref().map(|direct| direct.request(self.transport.uri(), path, &wanted)).transpose()?;
        let request = match direct.flatten() {
            Some(request) => request,
            None => self.request(path, &wanted).await?,
        };
        wanted.fetch(&self.transport, request).await
    }

    /// What comes before the key in the URL of an object; for a service that signs nothing.
    pub(crate) fn url_of_bucket(&self) -> Option<String> {
        let pin = Pin { kind: PinKind::SizeOnly, value: String::new() };
        let wanted = Wanted { key: String::new(), pin, size: 1, range: 0..1 };
        // It is ready at once: without a signature there is nothing to wait for before the request is caught.
        let request = self.request("k", &wanted).now_or_never()?.ok()?;
        request.uri().to_string().strip_suffix('k').map(str::to_owned)
    }

    /// The request as OpenDAL makes it.
    pub(crate) async fn request(&self, path: &str, wanted: &Wanted) -> Result<Request<Bytes>, SourceError> {
        let caught = Arc::new(Mutex::new(None));
        let context = self.context(Some(caught.clone()));
        let mut options = ReadOptions::default();
        match wanted.pin.kind {
            PinKind::VersionId => options.version = Some(wanted.pin.value.clone()),
            PinKind::ETag => options.if_match = Some(wanted.pin.value.clone()),
            PinKind::ModificationTime | PinKind::SizeOnly => {}
        }
        let (_, args, _): (BytesRange, OpRead, OpReader) = options.into();
        let range = BytesRange::new(wanted.range.start, Some(wanted.range.end - wanted.range.start));
        let reader = self.service.read_dyn(&context, path, args).map_err(|error| self.failure(error))?;
        let opened = reader.open_dyn(range).await.map(drop).map_err(|error| self.failure(error));
        let request = caught.lock().ok().and_then(|mut caught| caught.take());
        // What OpenDAL thinks of the empty answer to a caught request means nothing.
        let Some(request) = request else {
            return Err(opened.err().unwrap_or_else(|| self.transport.unavailable("the service made no request")));
        };
        Ok(request.map(|body: Buffer| body.to_bytes()))
    }

    fn context(&self, caught: Option<Caught>) -> OperationContext {
        let courier = Courier { transport: self.transport.clone(), machine: self.machine.clone(), caught };
        OperationContext::new().with_http_transport(HttpTransporter::new(courier))
    }

    /// Our own error comes back from inside OpenDAL's. Of others only the kind is told: a text could repeat what was signed.
    fn failure(&self, error: Error) -> SourceError {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(ours) = inner.downcast_ref::<SourceError>() {
                return ours.clone();
            }
            cause = inner.source();
        }
        if self.machine.is_some() && !error.is_temporary() {
            let detail = "this machine has no credentials of its own".to_owned();
            return SourceError::CredentialsRejected { uri: self.transport.uri().to_owned(), detail };
        }
        self.transport.unavailable(format!("its answer could not be understood: {}", error.kind()))
    }
}

fn listed(key: String, metadata: &Metadata, pin_by: PinBy) -> Listed {
    // "null" is what a bucket calls objects that it keeps no versions of: it can be overwritten.
    let version =
        metadata.version().filter(|&version| pin_by == PinBy::VersionID && !version.is_empty() && version != "null");
    let etag = metadata.etag().filter(|etag| !etag.is_empty() && !etag.starts_with("W/"));
    let (kind, value) = match (version, etag, metadata.last_modified()) {
        (Some(version), ..) => (PinKind::VersionId, version.to_owned()),
        (_, Some(etag), _) => (PinKind::ETag, etag.to_owned()),
        (.., Some(time)) => (PinKind::ModificationTime, time.into_inner().to_string()),
        (.., None) => (PinKind::SizeOnly, String::new()),
    };
    Listed { key, size: metadata.content_length(), pin: Pin { kind, value } }
}

type Caught = Arc<Mutex<Option<Request<Buffer>>>>;

/// What OpenDAL takes for the network.
struct Courier {
    transport: Transport,
    machine: Option<Transport>,
    caught: Option<Caught>,
}

impl HttpTransport for Courier {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        // Requests of the service say which operation they are for; those of its signer do not.
        let Some(operation) = request.extensions().get::<Operation>().copied() else {
            let machine = self
                .machine
                .as_ref()
                .ok_or_else(|| Error::new(ErrorKind::PermissionDenied, "no ambient credentials"))?;
            let response = machine.send(request.map(|body| body.to_bytes())).await.map_err(wrapped)?;
            return answer(machine, response).await.map_err(wrapped);
        };
        if let (Operation::Read, Some(caught)) = (operation, &self.caught) {
            if let Ok(mut caught) = caught.lock() {
                *caught = Some(request);
            }
            return Ok(Response::new(HttpBody::new(stream::empty(), None)));
        }
        let request = request.map(|body| body.to_bytes());
        let key = (operation == Operation::Stat).then_some("");
        patiently(|| self.ask(&self.transport, request.clone(), key)).await.map_err(wrapped)
    }
}

impl Courier {
    /// Sends a small request; `key` is the object that it is about.
    async fn ask(
        &self,
        transport: &Transport,
        request: Request<Bytes>,
        key: Option<&str>,
    ) -> Result<Response<HttpBody>, SourceError> {
        let response = transport.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(transport, key, response).await);
        }
        answer(transport, response).await
    }
}

/// The answer with its whole body, which is parsed as a whole anyway.
async fn answer(transport: &Transport, response: Response<Body>) -> Result<Response<HttpBody>, SourceError> {
    let (parts, mut body) = response.into_parts();
    let mut chunks = Vec::new();
    let mut length = 0;
    let mut text = 0;
    while let Some(chunk) = body.chunk().await.map_err(|failure| transport.failure(failure))? {
        length += chunk.len();
        if length > MAX_ANSWER {
            return Err(transport.too_large(format!("an answer has more than {} MiB", MAX_ANSWER >> 20)));
        }
        for part in chunk.split_inclusive(|&byte| byte == b'<') {
            text += part.len();
            if text > MAX_TEXT {
                return Err(transport.too_large(format!("a listing has a text of more than {} KiB", MAX_TEXT >> 10)));
            }
            if part.ends_with(b"<") {
                text = 0;
            }
        }
        chunks.push(chunk);
    }
    let body = stream::iter((!chunks.is_empty()).then(|| Ok(chunks.into_iter().collect::<Buffer>())));
    // The length of an answer to HEAD is that of a body that does not come.
    let mut answer = Response::new(HttpBody::new(body, None));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

fn wrapped(error: SourceError) -> Error {
    Error::new(ErrorKind::Unexpected, error.reason()).set_source(error)
}
