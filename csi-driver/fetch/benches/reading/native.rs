//! The limit: hyper's client without a pool, a signature or a check.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{Failure, Got, ask::Ask};

/// One connection.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what breaks it is seen there.
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    pub async fn read(&mut self, ask: &Ask) -> Result<Got, Failure> {
        let request = Request::get(format!("/bucket/{}", ask.key))
            .header(header::HOST, &self.host)
            .header(header::RANGE, format!("bytes={}-{}", ask.range.start, ask.range.end - 1))
            .body(Empty::new())?;
        let mut body = self.sender.send_request(request).await?.into_body();
        let mut got = Got::default();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                got.add(data.len());
            }
        }
        self.sender.ready().await?;
        Ok(got)
    }
}
