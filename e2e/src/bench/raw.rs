//! A client without a filesystem: HTTP over a plain socket. What it gets is the most that a mount could.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};

use super::data::Dataset;
use super::task::{Deadline, Outcome};

/// Bytes of one request for a part of a big object.
const RANGE_BYTES: u64 = 8 << 20;
/// Ranges that are asked for at the same time.
const RANGES_AT_ONCE: usize = 8;
/// Small objects that are asked for at the same time, whatever the number of readers.
const OBJECTS_AT_ONCE: usize = 64;

/// Reads all objects of `dataset`, big ones in ranges.
pub(super) fn read(dataset: Dataset, port: u16, deadline: Deadline) -> Result<Outcome> {
    let mut requests = Vec::new();
    for (key, size) in dataset.objects() {
        let path = format!("/bench/{}/{key}", dataset.prefix());
        let starts = (0..size).step_by(RANGE_BYTES as usize);
        requests.extend(starts.map(|start| (path.clone(), start, (start + RANGE_BYTES).min(size))));
    }
    let at_once = if dataset.bytes() / requests.len() as u64 > 1 << 20 { RANGES_AT_ONCE } else { OBJECTS_AT_ONCE };
    let next = AtomicUsize::new(0);
    let work = || -> Result<Outcome> {
        let mut connection = Connection::open(port)?;
        let mut done = Outcome::default();
        while let Some((path, start, end)) = requests.get(next.fetch_add(1, Relaxed))
            && !deadline.is_over()
        {
            let got = connection.drain(path, *start, *end)?;
            ensure!(got == end - start, "{path} has {got} bytes between {start} and {end}");
            done.bytes += got;
            done.count += u64::from(*start == 0);
        }
        Ok(done)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_fold(Outcome::default(), |sum, thread| {
            let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(Outcome { bytes: sum.bytes + done.bytes, count: sum.count + done.count, ..sum })
        })
    })
}

/// One request on a connection of its own: status and body.
pub(super) fn get(port: u16, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut connection = Connection::open(port)?;
    let (status, length) = connection.ask(path, None)?;
    let mut body = vec![0; usize::try_from(length)?];
    connection.stream.read_exact(&mut body).with_context(|| format!("reading {path}"))?;
    Ok((status, body))
}

/// A kept connection with one buffer.
struct Connection {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connecting to the benchmark's server")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(16 << 10, stream), buffer: vec![0; 256 << 10] })
    }

    /// Asks for a range of an object, or all of it; returns the status and the length of what comes.
    fn ask(&mut self, path: &str, range: Option<(u64, u64)>) -> Result<(u16, u64)> {
        let range = range.map_or(String::new(), |(start, end)| format!("Range: bytes={start}-{}\r\n", end - 1));
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{range}\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).with_context(|| format!("asking for {path}"))?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status =
            line.split(' ').nth(1).and_then(|text| text.parse().ok()).context("an answer begins with a status")?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                Some(_) => {}
                None => return Ok((status, length)),
            }
        }
    }

    /// Reads a range and throws it away.
    fn drain(&mut self, path: &str, start: u64, end: u64) -> Result<u64> {
        let (status, length) = self.ask(path, Some((start, end)))?;
        ensure!(status == 206, "the answer for {path} is {status}");
        let mut left = length;
        while left > 0 {
            let want = left.min(self.buffer.len() as u64) as usize;
            // BufReader hands reads of this length to the socket when it holds nothing itself.
            let got = self.stream.read(&mut self.buffer[..want])?;
            ensure!(got > 0, "the answer for {path} ends {left} bytes early");
            left -= got as u64;
        }
        Ok(length)
    }
}
