//! The keeper's clients' side.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SendFlags, Shutdown};

use crate::socket::{self, Packet};
use crate::wire::{Answer, Request, VERSIONS, Versions, WireError};

/// A connection to a keeper. When it is dropped, what it gave stays.
pub struct Client {
    socket: OwnedFd,
}

/// A keeper could not be reached, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket, or who is behind it.
    #[error("the keeper cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// It has gone.
    #[error("the keeper has gone")]
    Gone,
    /// It speaks other versions.
    #[error(
        "the keeper speaks versions {} to {} of its protocol, and this release {} to {}: restart it to update it",
        .0.least, .0.most, VERSIONS.least, VERSIONS.most
    )]
    Refused(Versions),
    /// It did not do what it was asked, and says why.
    #[error("the keeper refuses: {0}")]
    Failed(String),
    /// It said what makes no sense.
    #[error("the keeper is not understood: {0}")]
    Wire(#[from] WireError),
    /// It said what is no answer to what it was asked.
    #[error("the keeper gave an answer to something else")]
    Unexpected,
}

impl Client {
    /// Connects to the keeper at `path`, and agrees on a version. Nothing takes longer than `patience`, now or later.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let socket = socket::new()?;
        for direction in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, direction, Some(patience)).map_err(io::Error::from)?;
        }
        rustix::net::connect(&socket, &socket::address(path)?).map_err(io::Error::from)?;
        let client = Self { socket };
        let packet = client.ask(&Request::Hello(VERSIONS), &[])?;
        match Answer::decode(&packet.bytes)? {
            Answer::Welcome(version) if (VERSIONS.least..=VERSIONS.most).contains(&version) => Ok(client),
            Answer::Refused(versions) => Err(ClientError::Refused(versions)),
            other => Err(unexpected(&other)),
        }
    }

    /// Has descriptors kept, in place of what has the name.
    pub fn keep(&self, name: &str, descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        self.done(&Request::Keep(name), descriptors)
    }

    /// Has the keeper close what has the name. Nothing may have it.
    pub fn forget(&self, name: &str) -> Result<(), ClientError> {
        self.done(&Request::Forget(name), &[])
    }

    /// Everything that is kept.
    pub fn all(&self) -> Result<BTreeMap<String, Vec<OwnedFd>>, ClientError> {
        let mut all = BTreeMap::new();
        let mut last = String::new();
        loop {
            let packet = self.ask(&Request::Next(&last), &[])?;
            match Answer::decode(&packet.bytes)? {
                Answer::Entry(name) if name > last.as_str() => {
                    name.clone_into(&mut last);
                    all.insert(last.clone(), packet.descriptors);
                }
                Answer::End => return Ok(all),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Something to poll without asking for any event: it hangs up when the keeper has gone, or this client.
    pub fn watch(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    fn done(&self, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let packet = self.ask(request, descriptors)?;
        match Answer::decode(&packet.bytes)? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) -> Result<Packet, ClientError> {
        socket::send(self.socket.as_fd(), &request.encode(), descriptors, SendFlags::empty())?;
        socket::receive(self.socket.as_fd())?.ok_or(ClientError::Gone)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // For who watches it; one that is gone already says so.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }
}

fn unexpected(answer: &Answer<'_>) -> ClientError {
    match answer {
        Answer::Failed(why) => ClientError::Failed((*why).to_owned()),
        _ => ClientError::Unexpected,
    }
}
