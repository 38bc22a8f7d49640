//! How near reads of a source come to the limit: a bare HTTP client that checks nothing, in the same run.
//!
//! `cargo bench -p granary-fetch` prints a table. The server is another process, so the CPU time is the client's alone.

mod ask;
mod native;
mod server;

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ask::{Ask, Load};
use futures::TryStreamExt as _;
use granary_fetch::{
    Identity, NoCredentials, RetryPolicy, S3Options, SecretKeys, SharedCredentials, Source, SourceConfig, SourcePolicy,
    read_retrying,
};
use granary_image::{Pin, PinKind};
use server::Server;

type Failure = Box<dyn Error + Send + Sync>;

/// What one request, or all of them, brought.
#[derive(Clone, Copy, Default)]
struct Got {
    bytes: usize,
    chunks: usize,
}

impl Got {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.chunks += 1;
    }
}

/// One round of one client.
#[derive(Clone, Copy)]
struct Round {
    wall: f64,
    cpu: f64,
    got: Got,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Native,
    Anonymous,
    Signed,
    Retrying,
}

const CLIENTS: [Client; 4] = [Client::Native, Client::Anonymous, Client::Signed, Client::Retrying];

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().collect();
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "there is a provider already")?;
    match arguments.get(1).map(String::as_str) {
        Some(server::SERVE) => return Ok(server::serve(false)?),
        Some(server::SERVE_TLS) => return Ok(server::serve(true)?),
        _ => {}
    }
    // A test run only shows that it still works.
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let (rounds, few) = if measured { (7, [512, 20_000, 128]) } else { (1, [8, 64, 8]) };
    let loads = [ask::big(few[0], false), ask::small(few[1]), ask::big(few[2], true)];
    let chosen = arguments.iter().skip(1).filter(|argument| !argument.starts_with('-')).collect::<Vec<_>>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for load in loads.map(Arc::new) {
        if !chosen.is_empty() && !chosen.iter().any(|word| load.name.contains(*word)) {
            continue;
        }
        let server = Server::start(load.tls)?;
        let mut all: Vec<(Client, Vec<Round>)> = CLIENTS
            .into_iter()
            // Without a Secret there is no other authority to trust.
            .filter(|client| !load.tls || *client != Client::Anonymous)
            .filter(|client| chosen.len() < 2 || format!("{client:?}") == *chosen[1])
            .map(|client| (client, Vec::new()))
            .collect();
        for _ in 0..rounds {
            for (client, measured) in &mut all {
                measured.push(runtime.block_on(round(*client, &server, &load))?);
            }
        }
        print(&load, &all);
    }
    Ok(())
}

async fn round(client: Client, server: &Server, load: &Arc<Load>) -> Result<Round, Failure> {
    let source = open(client, server)?;
    let pin = Pin { kind: PinKind::ETag, value: server::ETAG.to_owned() };
    let next = Arc::new(AtomicUsize::new(0));
    let (started, cpu) = (Instant::now(), cpu_time());
    let workers = (0..load.at_once).map(|_| {
        let (load, next, source, pin) = (load.clone(), next.clone(), source.clone(), pin.clone());
        let (address, authority) = (server.address, server.authority.clone());
        tokio::spawn(async move {
            let mut native = if client == Client::Native {
                Some(native::Connection::open(address, authority.as_deref()).await?)
            } else {
                None
            };
            let mut got = Got::default();
            while let Some(ask) = load.asks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let one = match &mut native {
                    Some(connection) => connection.read(ask).await?,
                    None => read(client, &source, &pin, ask).await?,
                };
                got = Got { bytes: got.bytes + one.bytes, chunks: got.chunks + one.chunks };
            }
            Ok::<_, Failure>(got)
        })
    });
    let mut got = Got::default();
    for worker in workers.collect::<Vec<_>>() {
        let one = worker.await??;
        got = Got { bytes: got.bytes + one.bytes, chunks: got.chunks + one.chunks };
    }
    Ok(Round { wall: started.elapsed().as_secs_f64(), cpu: (cpu_time() - cpu).as_secs_f64(), got })
}

fn open(client: Client, server: &Server) -> Result<Arc<Source>, Failure> {
    let identity = if client == Client::Anonymous { Identity::Anonymous } else { Identity::Secret };
    let scheme = if server.authority.is_some() { "https" } else { "http" };
    let endpoint = Some(format!("{scheme}://{}", server.address));
    let config = SourceConfig {
        uri: "s3://bucket/".to_owned(),
        identity,
        s3: S3Options { endpoint, ..S3Options::default() },
        ..SourceConfig::default()
    };
    let policy = Arc::new(SourcePolicy::unrestricted());
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "example")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into_iter()
        .chain(server.authority.clone().map(|pem| ("ca.crt".to_owned(), pem)));
    Ok(match identity {
        Identity::Secret => {
            let keys = SharedCredentials::new(keys.collect::<SecretKeys>());
            Source::open(&config, Arc::new(keys), policy)?
        }
        _ => Source::open(&config, Arc::new(NoCredentials), policy)?,
    })
}

async fn read(client: Client, source: &Arc<Source>, pin: &Pin, ask: &Ask) -> Result<Got, Failure> {
    let mut body = match client {
        Client::Retrying => {
            let policy = RetryPolicy::default();
            read_retrying(source.clone(), ask.key.clone(), pin.clone(), ask.size, ask.range.clone(), policy)
        }
        _ => source.read(&ask.key, pin, ask.size, ask.range.clone()).await?,
    };
    let mut got = Got::default();
    while let Some(chunk) = body.try_next().await? {
        got.add(chunk.len());
    }
    Ok(got)
}

/// Of all threads of this process.
fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills a struct of this type, and all zeros is a value of it, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The median of each figure, and the ratios to the first client's.
fn print(load: &Load, all: &[(Client, Vec<Round>)]) {
    println!("{}", load.name);
    println!("  client        GB/s  requests/s  CPU-s/GiB  chunk KiB   speed  CPU (to the native limit)");
    let figures = |rounds: &[Round]| {
        let median = |of: &dyn Fn(&Round) -> f64| {
            let mut values: Vec<_> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let speed = median(&|round| round.got.bytes as f64 / round.wall);
        let cpu = median(&|round| round.cpu / (round.got.bytes as f64 / f64::from(1 << 30)));
        let chunk = median(&|round| round.got.bytes as f64 / round.got.chunks as f64);
        (speed, median(&|round| load.asks.len() as f64 / round.wall), cpu, chunk)
    };
    let (limit, _, least, _) = figures(&all[0].1);
    for (client, rounds) in all {
        let (speed, requests, cpu, chunk) = figures(rounds);
        println!(
            "  {:<10}  {:6.2}  {requests:10.0}  {cpu:9.2}  {:9.0}  {:6.2}  {:6.2}",
            format!("{client:?}"),
            speed / 1e9,
            chunk / 1024.0,
            speed / limit,
            cpu / least,
        );
    }
}
