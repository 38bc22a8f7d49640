//! A server that costs little: every GET is answered from one buffer, by a process of its own.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The argument that makes this program the server.
pub const SERVE: &str = "--serve";
/// The same with TLS.
pub const SERVE_TLS: &str = "--serve-tls";
/// Every object is tagged so.
pub const ETAG: &str = "\"0123456789abcdef0123456789abcdef\"";
/// No range is longer.
const LONGEST: usize = 16 << 20;

/// The server's process; it ends when this is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What to trust, in PEM, if connections are encrypted.
    pub authority: Option<String>,
}

impl Server {
    pub fn start(tls: bool) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(if tls { SERVE_TLS } else { SERVE })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(out).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let address = lines.next().ok_or(io::ErrorKind::BrokenPipe)?.parse().map_err(io::Error::other)?;
        let authority = lines.collect::<Vec<_>>().join("\n");
        Ok(Self { child, address, authority: tls.then_some(authority) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the parent is gone.
pub fn serve(tls: bool) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let tls = if tls { Some(certificate()?) } else { None };
    println!();
    let body: &'static [u8] = (0..LONGEST).map(|at| (at >> 4) as u8).collect::<Vec<_>>().leak();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tls = tls.clone();
            // A connection that breaks is one that the client has closed.
            thread::spawn(move || {
                stream.set_nodelay(true)?;
                match tls {
                    None => connection(stream, body),
                    Some(config) => {
                        let session = ServerConnection::new(config).map_err(io::Error::other)?;
                        connection(StreamOwned::new(session, stream), body)
                    }
                }
            });
        }
    });
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// Prints its own certificate.
fn certificate() -> io::Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
    println!("{}", made.cert.pem().trim());
    let key = made.signing_key.serialize_der().try_into().map_err(io::Error::other)?;
    let builder = ServerConfig::builder().with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(vec![made.cert.der().clone()], key).map_err(io::Error::other)?))
}

fn connection(stream: impl Read + Write, body: &[u8]) -> io::Result<()> {
    let mut requests = BufReader::new(stream);
    let mut line = String::new();
    let (mut range, mut size) = (None, 0_u64);
    loop {
        line.clear();
        if requests.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if let Some((_, path)) = text.split_once("get ") {
            // The first number of a path is the object's length.
            size = path.split(|c: char| !c.is_ascii_digit()).find_map(|number| number.parse().ok()).unwrap_or(0);
            range = None;
        } else if let Some((start, end)) = text.strip_prefix("range: bytes=").and_then(|text| text.split_once('-')) {
            range = Some(start.parse().unwrap_or(0)..end.parse().unwrap_or(0) + 1_u64);
        } else if text.is_empty() {
            let (status, part) = match &range {
                Some(range) => {
                    let part = format!("Content-Range: bytes {}-{}/{size}\r\n", range.start, range.end - 1);
                    ("206 Partial Content", part)
                }
                None => ("200 OK", String::new()),
            };
            let length = range.as_ref().map_or(size, |range| range.end - range.start);
            let head = format!(
                "HTTP/1.1 {status}\r\nDate: Wed, 01 May 2024 10:00:00 GMT\r\nServer: memory\r\n\
                 Accept-Ranges: bytes\r\nETag: {ETAG}\r\nLast-Modified: Wed, 01 May 2024 10:00:00 GMT\r\n\
                 x-amz-request-id: 0123456789ABCDEF\r\nContent-Type: application/octet-stream\r\n\
                 {part}Content-Length: {length}\r\n\r\n",
            );
            let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(&body[..length as usize])];
            let mut left = &mut parts[..];
            while !left.is_empty() {
                let written = requests.get_mut().write_vectored(left)?;
                IoSlice::advance_slices(&mut left, written);
            }
        }
    }
}
