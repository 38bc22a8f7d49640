//! A server that costs little: every GET is answered from one buffer, by a process of its own.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

/// The argument that makes this program the server.
pub const SERVE: &str = "--serve";
/// Every object is tagged so.
pub const ETAG: &str = "\"0123456789abcdef0123456789abcdef\"";
/// No range is longer.
const LONGEST: usize = 16 << 20;

/// The server's process; it ends when this is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start() -> io::Result<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).arg(SERVE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        read.unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address })
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
pub fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let body: &'static [u8] = (0..LONGEST).map(|at| (at >> 4) as u8).collect::<Vec<_>>().leak();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is one that the client has closed.
            thread::spawn(move || connection(&stream, body));
        }
    });
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn connection(stream: &TcpStream, body: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream);
    let mut line = String::new();
    let (mut range, mut size) = (0..0, 0_u64);
    loop {
        line.clear();
        if requests.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if let Some((_, path)) = text.split_once("get ") {
            // The first number of a path is the object's length.
            size = path.split(|c: char| !c.is_ascii_digit()).find_map(|number| number.parse().ok()).unwrap_or(0);
        } else if let Some((start, end)) = text.strip_prefix("range: bytes=").and_then(|text| text.split_once('-')) {
            range = start.parse().unwrap_or(0)..end.parse().unwrap_or(0) + 1_u64;
        } else if text.is_empty() {
            let length = range.end - range.start;
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nDate: Wed, 01 May 2024 10:00:00 GMT\r\nServer: memory\r\n\
                 Accept-Ranges: bytes\r\nETag: {ETAG}\r\nLast-Modified: Wed, 01 May 2024 10:00:00 GMT\r\n\
                 x-amz-request-id: 0123456789ABCDEF\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {}-{}/{size}\r\nContent-Length: {length}\r\n\r\n",
                range.start,
                range.end - 1,
            );
            let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(&body[..length as usize])];
            let mut left = &mut parts[..];
            while !left.is_empty() {
                let written = (&*stream).write_vectored(left)?;
                IoSlice::advance_slices(&mut left, written);
            }
        }
    }
}
