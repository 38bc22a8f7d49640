//! The keeper itself: one thread, one answer to each packet.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::ops::Bound;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{SendFlags, SocketFlags};
use rustix::process::{Resource, Rlimit};

use crate::socket;
use crate::wire::{Answer, Request, VERSIONS, Versions};

/// Connections at a time: a node's process, its successor, and who looks.
const MOST_PEERS: usize = 16;
/// Descriptors that are not for what is kept.
const SPARE_DESCRIPTORS: u64 = 64;
const BACKLOG: i32 = 16;

/// A keeper could not begin.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// One listens there already.
    #[error("a keeper runs at '{}' already", .0.display())]
    Running(PathBuf),
    /// Something else is in its place.
    #[error("'{}' is in the way and is no socket: remove it", .0.display())]
    NotASocket(PathBuf),
    /// The socket could not be made.
    #[error("cannot listen at '{}': {error}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// Holds descriptors by name.
pub struct Keeper {
    listener: OwnedFd,
    versions: Versions,
    entries: BTreeMap<String, Vec<OwnedFd>>,
    peers: Vec<Peer>,
    most_descriptors: u64,
}

struct Peer {
    socket: OwnedFd,
    has_said_hello: bool,
}

impl Keeper {
    /// Listens at `path`, where a predecessor's socket may lie. Only this user may connect.
    pub fn listen(path: &Path) -> Result<Self, KeeperError> {
        let failed = |error| KeeperError::Io { path: path.to_owned(), error };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(KeeperError::NotASocket(path.to_owned())),
            Ok(_) if answers(path).map_err(failed)? => return Err(KeeperError::Running(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = bind(path).map_err(failed)?;
        let most_descriptors = raise_limit().saturating_sub(SPARE_DESCRIPTORS);
        Ok(Self { listener, versions: VERSIONS, entries: BTreeMap::new(), peers: Vec::new(), most_descriptors })
    }

    /// Has it speak other versions than this release's, for tests of how releases meet.
    pub fn speaking(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    /// Keeps until the process ends. With `linger`, also until nobody has been connected for so long; at once if there is
    /// nothing left to keep.
    pub fn run(mut self, linger: Option<Duration>) -> io::Result<()> {
        let mut alone_since = Instant::now();
        let mut had_a_peer = false;
        loop {
            let timeout =
                linger.filter(|_| self.peers.is_empty()).map(|linger| match had_a_peer && self.entries.is_empty() {
                    true => Duration::ZERO,
                    false => linger.saturating_sub(alone_since.elapsed()),
                });
            if timeout == Some(Duration::ZERO) {
                return Ok(());
            }
            let (has_new, ready) = self.wait(timeout)?;
            // From the last, since those that are gone are taken out.
            for nth in ready.into_iter().rev() {
                if self.serve(nth).is_none() {
                    self.peers.swap_remove(nth);
                    alone_since = Instant::now();
                }
            }
            if has_new {
                self.accept();
                had_a_peer |= !self.peers.is_empty();
            }
        }
    }

    /// Waits for a new peer, or for packets of peers, which are given by their places.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<(bool, Vec<usize>)> {
        let mut polled: Vec<_> = self.peers.iter().map(|peer| PollFd::new(&peer.socket, PollFlags::IN)).collect();
        if self.peers.len() < MOST_PEERS {
            polled.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
            _ => {}
        }
        let happened = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let has_new = polled.get(self.peers.len()).is_some_and(happened);
        let ready = polled.iter().take(self.peers.len()).enumerate().filter(|(_, polled)| happened(polled));
        Ok((has_new, ready.map(|(nth, _)| nth).collect()))
    }

    fn accept(&mut self) {
        // Who has gone in between is no loss, and others may not come.
        let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        self.peers.push(Peer { socket, has_said_hello: false });
    }

    /// Answers a packet. `None` if the peer is gone, or makes no sense.
    fn serve(&mut self, nth: usize) -> Option<()> {
        let packet = socket::receive(&self.peers[nth].socket).ok()??;
        let request = Request::decode(&packet.bytes).ok()?;
        let versions = self.versions;
        let answer = match request {
            Request::Hello(theirs) => match versions.common(theirs) {
                Some(version) => {
                    self.peers[nth].has_said_hello = true;
                    Answer::Welcome(version)
                }
                None => Answer::Refused(versions),
            },
            _ if !self.peers[nth].has_said_hello => Answer::Failed("there was no hello that both understand"),
            Request::Keep(name) => self.keep(name, packet.descriptors),
            Request::Forget(name) => {
                self.entries.remove(name);
                Answer::Done
            }
            Request::Next(name) => return self.give_next(nth, name),
        };
        self.send(nth, &answer, &[])
    }

    fn keep(&mut self, name: &str, descriptors: Vec<OwnedFd>) -> Answer<'static> {
        if descriptors.is_empty() {
            return Answer::Failed("there are no descriptors to keep");
        }
        let others = self.entries.iter().filter(|(other, _)| *other != name).map(|(_, kept)| kept.len() as u64);
        if others.sum::<u64>() + descriptors.len() as u64 > self.most_descriptors {
            return Answer::Failed("it has as many descriptors as it may have");
        }
        self.entries.insert(name.to_owned(), descriptors);
        Answer::Done
    }

    fn give_next(&self, nth: usize, name: &str) -> Option<()> {
        match self.entries.range::<str, _>((Bound::Excluded(name), Bound::Unbounded)).next() {
            Some((name, descriptors)) => self.send(nth, &Answer::Entry(name), descriptors),
            None => self.send(nth, &Answer::End, &[]),
        }
    }

    /// Never waits: a peer that does not take its answers is of no use.
    fn send(&self, nth: usize, answer: &Answer<'_>, descriptors: &[OwnedFd]) -> Option<()> {
        let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        socket::send(&self.peers[nth].socket, &answer.encode(), &descriptors, SendFlags::DONTWAIT).ok()
    }
}

/// Whether somebody listens at `path`.
fn answers(path: &Path) -> io::Result<bool> {
    Ok(rustix::net::connect(socket::new()?, &socket::address(path)?).is_ok())
}

fn bind(path: &Path) -> io::Result<OwnedFd> {
    let listener = socket::new()?;
    rustix::net::bind(&listener, &socket::address(path)?)?;
    // Who may write to the file may connect: its owner, from whatever namespace. Nobody can before it listens.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Allows this process as many descriptors as it may allow itself, and tells how many.
fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let raised = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // No limit is one by the kernel's own measure, which is more than is ever kept.
    if raised.is_ok() { maximum } else { current }.unwrap_or(1 << 20)
}
