//! A small S3 and HTTP server that does as it should: listings by pages, versions, ranges, conditions and checksums.

mod answer;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpListener;

use crate::reply::End;
use crate::wire::{Request, read_request};

/// The only bucket.
pub const BUCKET: &str = "bucket";

/// One version of an object.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its content.
    pub bytes: Bytes,
    /// Its entity tag, with quotes.
    pub etag: Option<String>,
    /// Its version id.
    pub version: String,
    /// As HTTP writes a date.
    pub last_modified: Option<String>,
    /// Names and values of headers, for those who read all of it and ask for checksums.
    pub checksums: Vec<(String, String)>,
}

/// What the server has, and what it wants.
#[derive(Debug)]
pub struct State {
    /// Versions of each key, the newest last.
    pub objects: BTreeMap<String, Vec<Stored>>,
    /// Whether pages of a listing say that there is more, but not where.
    pub loses_token: bool,
    /// If set, requests must be signed with this key id or carry this Authorization.
    pub key_id: Option<String>,
    /// Answers of paths before anything else: status and Location.
    pub redirects: BTreeMap<String, (u16, String)>,
    /// Keys on a page of a listing.
    pub page: usize,
    /// Whether versions are told.
    pub versioned: bool,
    /// What was asked.
    pub requests: Vec<Request>,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Store {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Store {
    /// A server at a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Self> {
        let (store, listener) = Self::bind().await?;
        let server = store.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        Ok(store)
    }

    /// A server whose connections are accepted by the caller, from this listener.
    pub async fn bind() -> io::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let state = State {
            objects: BTreeMap::new(),
            loses_token: false,
            key_id: None,
            redirects: BTreeMap::new(),
            page: 3,
            versioned: false,
            requests: Vec::new(),
        };
        Ok((Self { address: listener.local_addr()?, state: Arc::new(Mutex::new(state)) }, listener))
    }

    /// Answers the requests of one connection.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream).await {
            let head_only = request.method == "HEAD";
            let reply = answer::answer(&mut self.state(), request);
            if !matches!(reply.write(&mut stream, head_only).await, Ok(End::Goes)) {
                return;
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new version of an object, without checksums.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let mut state = self.state();
        let versions = state.objects.entry(key.to_owned()).or_default();
        let number = versions.len();
        versions.push(Stored {
            bytes: bytes.into(),
            etag: Some(format!("\"{number}-{:x}\"", key.len())),
            version: format!("v{number}"),
            last_modified: Some(format!("Wed, 01 May 2024 10:00:{number:02} GMT")),
            checksums: Vec::new(),
        });
    }

    /// States a checksum of the newest version of an object that is there.
    pub fn state_checksum(&self, key: &str, header: &str, value: &str) {
        let mut state = self.state();
        let newest = state.objects.get_mut(key).and_then(|versions| versions.last_mut());
        newest.into_iter().for_each(|stored| stored.checksums.push((header.to_owned(), value.to_owned())));
    }
}
