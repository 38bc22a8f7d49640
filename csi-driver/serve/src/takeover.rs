//! FUSE sessions of a predecessor, gone on with: the kernel notices nothing but a pause.
//!
//! What a session and the kernel have agreed on stays with the connection, so the kernel must not be greeted again; `fuser` has
//! no other way to begin. It is greeted by this process itself, over a socket, in whose place the connection is put then.

use std::io::{self, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use fuser::{Config, Filesystem, Session, SessionACL};
use rustix::event::{PollFd, PollFlags};
use rustix::io::DupFlags;

use crate::journalled;

/// A message without a request, of 16 bytes: `FUSE_NOTIFY_RESEND`, since Linux 6.9.
const RESEND: [u8; 16] = [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const INIT: u32 = 26;
const INIT_BYTES: u32 = 104;
/// Version 7.40 of FUSE's protocol: recent enough for every capability to have its place in the greeting.
const VERSION: [u32; 2] = [7, 40];
/// In bytes; any that makes sense.
const READ_AHEAD: u32 = 128 << 10;

/// Has the kernel ask again whatever was asked and not answered. An error says that it cannot: such a connection cannot be gone
/// on with.
pub(crate) fn ask_again(connection: impl AsFd) -> io::Result<()> {
    rustix::io::write(connection, &RESEND)?;
    Ok(())
}

/// Whether the kernel has not given the connection up.
pub(crate) fn is_alive(connection: impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(&connection, PollFlags::IN)];
    rustix::event::poll(&mut polled, Some(&Default::default()))?;
    Ok(!polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

/// A session on `connection`, which a predecessor has begun and serves no more.
pub(crate) fn session<F: Filesystem>(filesystem: F, connection: &OwnedFd, config: Config) -> io::Result<Session<F>> {
    let (session, _) = session_apart(filesystem, connection, config)?;
    place(&session, connection)?;
    ask_again(connection)?;
    Ok(session)
}

/// A session as of `connection`, which a predecessor has begun and serves no more, on a socket whose other end is given.
pub(crate) fn session_apart<F: Filesystem>(
    filesystem: F,
    connection: &OwnedFd,
    config: Config,
) -> io::Result<(Session<F>, UnixStream)> {
    if !is_alive(connection)? {
        return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
    }
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(&greeting())?;
    let session = Session::from_fd(filesystem, theirs.into(), SessionACL::All, config)?;
    journalled::take_answer(&mut ours)?;
    Ok((session, ours))
}

/// Takes a session that was greeted from its connection, and gives it a socket. Gives the other end.
pub(crate) fn set_apart(session: &Session<impl Filesystem>) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    place(session, theirs)?;
    Ok(ours)
}

/// Puts a descriptor in the place of a session's own.
fn place(session: &Session<impl Filesystem>, descriptor: impl AsFd) -> io::Result<()> {
    // SAFETY: the number is of the session's own descriptor, and is not closed here.
    let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(session.as_fd().as_raw_fd()) });
    Ok(rustix::io::dup3(descriptor, &mut place, DupFlags::CLOEXEC)?)
}

/// `struct fuse_in_header` and `struct fuse_init_in`, from a kernel that offers everything.
fn greeting() -> Vec<u8> {
    let [major, minor] = VERSION;
    // Length, operation, unique, node, user, group, process, extensions; version, read-ahead, capabilities; the rest is zero.
    let words = [INIT_BYTES, INIT, 1, 0, 0, 0, 0, 0, 0, 0, major, minor, READ_AHEAD, u32::MAX, u32::MAX];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.resize(INIT_BYTES as usize, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use fuser::KernelConfig;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    use super::*;

    struct Nothing;

    impl Filesystem for Nothing {
        fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
            crate::fuse_session::negotiate(config);
            Ok(())
        }
    }

    /// A connection is not needed to see that `fuser` takes the greeting.
    #[test]
    fn a_session_is_greeted_by_ourselves_and_speaks_to_the_connection() {
        let (connection, kernel) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let session = session(Nothing, &connection, Config::default()).unwrap();
        drop(connection);
        let mut bytes = [0; 64];
        let (len, _) = rustix::net::recv(&kernel, bytes.as_mut_slice(), rustix::net::RecvFlags::empty()).unwrap();
        assert_eq!(bytes[..len], RESEND, "the greeting's answer does not reach the kernel");
        drop(session);
        let (len, _) = rustix::net::recv(&kernel, bytes.as_mut_slice(), rustix::net::RecvFlags::empty()).unwrap();
        assert_eq!(len, 0, "the session had the only descriptor");
    }

    #[test]
    fn a_connection_that_is_given_up_is_not_gone_on_with() {
        let (connection, kernel) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert!(is_alive(&connection).unwrap());
        drop(kernel);
        assert!(!is_alive(&connection).unwrap());
        assert!(session(Nothing, &connection, Config::default()).is_err());
    }
}
