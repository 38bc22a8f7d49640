//! A proxy that does to each request and its answer what it was told to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::fault::Fault;
use crate::reply::{Course, End, Length, Reply};
use crate::upstream;
use crate::wire::{Request, read_request};

/// A request that came, and what was done to it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its head, before it was changed.
    pub request: Request,
    /// What was done.
    pub fault: Fault,
}

/// A proxy of one HTTP server. Requests that read objects take the faults of [`Self::fail`] one each, then those of
/// [`Self::fail_always`]; listings take those of [`Self::fail_listings`]; everything else passes.
///
/// Faults that change the request (another range, no condition) need a server that checks no signatures.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    script: Mutex<Script>,
    /// How many requests have come.
    count: watch::Sender<usize>,
    /// Connections that are open.
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Script {
    reads: VecDeque<Fault>,
    always: Fault,
    listings: VecDeque<Fault>,
    asked: Vec<Asked>,
    connections: usize,
}

impl Proxy {
    /// A proxy of `upstream` at a free port of 127.0.0.1.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into(), upstream).await
    }

    /// A proxy of `upstream` at `address`.
    pub async fn start_at(address: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (count, open) = (watch::Sender::new(0), watch::Sender::new(0));
        let shared = Arc::new(Shared { upstream, script: Mutex::default(), count, open });
        let proxy = Self { address, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                shared.script().connections += 1;
                shared.open.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    // Whoever broke the connection off knows it.
                    let _ = serve(stream, &shared).await;
                    shared.open.send_modify(|open| *open -= 1);
                });
            }
        });
        Ok(proxy)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Faults of the next reads of objects, one each, in the order in which they come.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.script().reads.extend(faults);
    }

    /// The fault of all reads of objects that have none of their own; [`Fault::None`] ends it.
    pub fn fail_always(&self, fault: Fault) {
        self.shared.script().always = fault;
    }

    /// Faults of the next listings, one each.
    pub fn fail_listings(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.script().listings.extend(faults);
    }

    /// Faults of [`Self::fail`] that no request has taken yet.
    pub fn left(&self) -> usize {
        self.shared.script().reads.len()
    }

    /// All requests that came so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.script().asked.clone()
    }

    /// How many reads of objects came so far.
    pub fn reads(&self) -> usize {
        self.shared.script().asked.iter().filter(|asked| asked.request.is_read()).count()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.shared.script().connections
    }

    /// Waits until so many reads of objects have come.
    pub async fn wait_for_reads(&self, reads: usize) {
        // The sender is ours, so it cannot have gone.
        let _ = self.shared.count.subscribe().wait_for(|_| self.reads() >= reads).await;
    }

    /// Waits until at most so many connections are open.
    pub async fn wait_for_open(&self, most: usize) {
        let _ = self.shared.open.subscribe().wait_for(|open| *open <= most).await;
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the request, and says what is to be done to it.
    fn take(&self, request: &Request) -> Fault {
        let mut script = self.script();
        let fault = if request.is_listing() {
            script.listings.pop_front().unwrap_or_default()
        } else if request.is_read() {
            let always = script.always.clone();
            script.reads.pop_front().unwrap_or(always)
        } else {
            Fault::None
        };
        script.asked.push(Asked { request: request.clone(), fault: fault.clone() });
        drop(script);
        self.count.send_modify(|count| *count += 1);
        fault
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let fault = shared.take(&request);
        let end = match answer(&request, fault, shared.upstream).await {
            Ok(reply) => reply.write(&mut stream, request.method == "HEAD").await?,
            Err(Silence::Ends(end)) => end,
            Err(Silence::Garbage) => {
                stream.write_all(b"220 this is no HTTP\r\n\r\n").await?;
                End::Closes
            }
        };
        match end {
            End::Goes => {}
            End::Closes => return Ok(()),
            End::Resets => return stream.get_ref().set_zero_linger(),
            End::Stalls => return until_closed(&mut stream).await,
        }
    }
    Ok(())
}

async fn until_closed(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// There is no answer.
enum Silence {
    Ends(End),
    Garbage,
}

async fn answer(request: &Request, fault: Fault, upstream: SocketAddr) -> Result<Reply, Silence> {
    match &fault {
        Fault::Stall => return Err(Silence::Ends(End::Stalls)),
        Fault::Close => return Err(Silence::Ends(End::Closes)),
        Fault::Reset => return Err(Silence::Ends(End::Resets)),
        Fault::Garbage => return Err(Silence::Garbage),
        Fault::Status(status) => return Ok(Reply::error(*status, "Fault")),
        Fault::Redirect(status, to) => {
            return Ok(Reply::new(*status, vec![("Location".to_owned(), to.clone())], Bytes::new()));
        }
        Fault::Delay(time) => sleep(*time).await,
        _ => {}
    }
    let reply = upstream::ask(upstream, &bent(request, &fault)).await;
    // Nothing is there behind the proxy: what a gateway says then.
    let mut reply = reply.unwrap_or_else(|_| Reply::error(502, "BadGateway"));
    if (200..300).contains(&reply.status) {
        bend(&mut reply, fault);
    }
    Ok(reply)
}

/// The request as the server shall see it.
fn bent(request: &Request, fault: &Fault) -> Request {
    let mut request = request.clone();
    match fault {
        Fault::IgnoreRange => drop(request.headers.remove("range")),
        Fault::IgnoreCondition | Fault::OtherVersion => drop(request.headers.remove("if-match")),
        Fault::OtherRange => {
            if let Some(range) = request.headers.get_mut("range") {
                *range = shifted(range).unwrap_or_default();
            }
        }
        _ => {}
    }
    request
}

fn shifted(range: &str) -> Option<String> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    Some(match start {
        0 => format!("bytes=1-{end}"),
        _ => format!("bytes={}-{}", start - 1, end - 1),
    })
}

/// Does to a good answer what the fault says.
fn bend(reply: &mut Reply, fault: Fault) {
    let longer = |body: &[u8]| Bytes::from([body, b"more"].concat());
    match fault {
        Fault::StallAfter(given) => reply.course = Course::Part(given, End::Stalls),
        Fault::ResetAfter(given) => reply.course = Course::Part(given, End::Resets),
        Fault::Truncate(given) => reply.course = Course::Part(given, End::Closes),
        Fault::Hold(notify) => reply.course = Course::Halves(notify),
        Fault::Drip(pause) => reply.course = Course::Drip(pause),
        Fault::TruncateChunked(given) => {
            reply.body.truncate(given);
            reply.length = Length::Chunked;
        }
        Fault::Lengthen => {
            reply.body = longer(&reply.body);
            reply.length = Length::Announced(reply.body.len());
        }
        Fault::LengthenChunked => {
            reply.body = longer(&reply.body);
            reply.length = Length::Chunked;
        }
        Fault::Corrupt(at) => reply.body = flipped(&reply.body, |place| place == at),
        Fault::OtherVersion => {
            reply.body = flipped(&reply.body, |_| true);
            reply.set("etag", Some("\"other\"".to_owned()));
        }
        Fault::OtherETag => reply.set("etag", Some("\"other\"".to_owned())),
        Fault::NoETag => reply.set("etag", None),
        Fault::OtherTotal => {
            let range = reply.header("content-range").and_then(|range| range.split_once('/'));
            let longer = range.and_then(|(range, total)| Some(format!("{range}/{}", total.parse::<u64>().ok()? + 1)));
            reply.set("content-range", longer);
        }
        Fault::None
        | Fault::Delay(_)
        | Fault::Stall
        | Fault::Close
        | Fault::Reset
        | Fault::Status(_)
        | Fault::Redirect(..)
        | Fault::IgnoreRange
        | Fault::IgnoreCondition
        | Fault::OtherRange
        | Fault::Garbage => {}
    }
}

fn flipped(body: &[u8], is_flipped: impl Fn(usize) -> bool) -> Bytes {
    body.iter().enumerate().map(|(at, byte)| if is_flipped(at) { !byte } else { *byte }).collect()
}
