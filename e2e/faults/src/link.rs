//! A slow link on loopback: what comes in at one port goes out to another, later, and not faster than a cap.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What is read at a time: half a millisecond of the usual cap.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks under way on one connection; with less than latency times cap, the cap could not be reached by one connection.
const UNDER_WAY: usize = 64;

/// How a link is slow.
#[derive(Clone, Copy, Debug)]
pub struct Slowness {
    /// What is added to a round trip.
    pub latency: Duration,
    /// Most bytes of all answers together.
    pub bytes_per_second: u64,
}

/// Forwards every connection of `listener` to `target`.
pub async fn forward_slowly(listener: TcpListener, target: SocketAddr, slowness: Slowness) -> io::Result<()> {
    let way = slowness.latency / 2;
    let cap = Arc::new(Cap::new(slowness.bytes_per_second));
    loop {
        let (client, _) = listener.accept().await?;
        let cap = cap.clone();
        tokio::spawn(async move {
            // A connection that breaks on one side breaks on the other, too: both ends see it.
            let _ = forward(client, target, way, cap).await;
        });
    }
}

async fn forward(client: TcpStream, target: SocketAddr, way: Duration, cap: Arc<Cap>) -> io::Result<()> {
    // The handshake takes a round trip before the first byte of a request can leave.
    tokio::time::sleep(way * 2).await;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(carry(from_client, to_server, way, None), carry(from_server, to_client, way, Some(cap)))?;
    Ok(())
}

/// Carries bytes in one direction: each leaves `way` after it came, and when the cap lets it.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Duration,
    cap: Option<Arc<Cap>>,
) -> io::Result<()> {
    let (send, mut receive) = mpsc::channel::<(Instant, BytesMut)>(UNDER_WAY);
    let read = async move {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
            if from.read_buf(&mut chunk).await? == 0 || send.send((Instant::now() + way, chunk)).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((leaves, chunk)) = receive.recv().await {
            sleep_until(leaves).await;
            if let Some(cap) = &cap {
                sleep_until(cap.reserve(chunk.len(), leaves.max(Instant::now()))).await;
            }
            to.write_all(&chunk).await?;
        }
        to.shutdown().await?;
        io::Result::Ok(())
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

/// Bytes a second of all connections together: each chunk gets the time after the last one's.
#[derive(Debug)]
struct Cap {
    bytes_per_second: u64,
    free_from: Mutex<Instant>,
}

impl Cap {
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, free_from: Mutex::new(Instant::now()) }
    }

    /// When `bytes` that are there from `ready` on have passed.
    fn reserve(&self, bytes: usize, ready: Instant) -> Instant {
        let mut free_from = self.free_from.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        *free_from = ready.max(*free_from) + takes;
        *free_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_through_is_unchanged_and_late() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap();
        let slowness = Slowness { latency: Duration::from_millis(20), bytes_per_second: 1_000_000_000 };
        tokio::spawn(forward_slowly(proxy, target, slowness));
        let begun = Instant::now();
        let mut client = TcpStream::connect(address).await.unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, sent);
        // The handshake and one round trip: never less, however busy the machine is.
        assert!(begun.elapsed() >= Duration::from_millis(40), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn all_connections_share_the_cap() {
        let cap = Cap::new(1_000_000);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(cap.reserve(500_000, now), now + Duration::from_millis(500));
        assert_eq!(cap.reserve(500_000, now), now + Duration::from_secs(1));
        let later = now + Duration::from_secs(9);
        assert_eq!(cap.reserve(1000, later), later + Duration::from_millis(1), "unused time is not saved up");
    }
}
