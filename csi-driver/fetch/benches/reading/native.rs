//! The limit: hyper's client without a pool, a signature or a check.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::{Failure, Got, ask::Ask};

type Sender = SendRequest<Empty<Bytes>>;

async fn start(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, Failure> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with the sender; what breaks it is seen there.
    tokio::spawn(connection);
    Ok(sender)
}

/// One connection.
pub struct Connection {
    sender: Sender,
    host: String,
}

impl Connection {
    pub async fn open(address: SocketAddr, authority: Option<&str>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let sender = match authority {
            None => start(stream).await?,
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
                let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
                let name = ServerName::from(address.ip());
                start(TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await?
            }
        };
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
