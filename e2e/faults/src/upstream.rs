//! Requests that the proxy passes on, each on a connection of its own: what it does to one says nothing about the next.

use std::error::Error;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Request as HttpRequest;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::reply::{Length, Reply};
use crate::wire::Request;

/// Headers that are about one connection, or that tell a length which the proxy tells itself.
const OWN: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// The answer of the server at `address`.
pub(crate) async fn ask(address: SocketAddr, request: &Request) -> Result<Reply, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut head = HttpRequest::builder().method(request.method.as_str()).uri(&request.target);
    for (name, value) in request.headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        head = head.header(name, value);
    }
    let answer = sender.send_request(head.body(Empty::new())?).await?;
    let (parts, body) = answer.into_parts();
    let mut headers = Vec::new();
    let mut announced = None;
    for (name, value) in &parts.headers {
        let value = value.to_str()?;
        if name == http::header::CONTENT_LENGTH {
            announced = value.parse().ok();
        }
        if !OWN.contains(&name.as_str()) {
            headers.push((name.as_str().to_owned(), value.to_owned()));
        }
    }
    let body = body.collect().await?.to_bytes();
    let mut reply = Reply::new(parts.status.as_u16(), headers, body);
    // The answer to HEAD tells the length of a body that does not come.
    if let (Some(announced), true) = (announced, request.method == "HEAD") {
        reply.length = Length::Announced(announced);
    }
    Ok(reply)
}
