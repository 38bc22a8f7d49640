//! Calls for which the kernel waits, whatever happens, until this process has answered its requests.
//!
//! A process that is killed in such a call answers nothing more. It would not end either: it ends when the call has returned,
//! and its FUSE connections, which would be given up then, are closed when it has ended. So the call is made by a thread that
//! has a table of descriptors of its own, without those connections: they are closed with the other threads, the requests fail,
//! the call returns, and the process ends.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::thread::UnshareFlags;

const CONNECTION: &str = "/dev/fuse";

/// Calls `work`, which may use all descriptors but FUSE connections, and must not let any new one out.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("granary-apart".into()).spawn_scoped(scope, || {
            leave_connections()?;
            work()
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// As [`run`], for work that makes a descriptor.
pub(crate) fn open(work: impl FnOnce() -> io::Result<OwnedFd> + Send) -> io::Result<OwnedFd> {
    let (inside, outside) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    run(|| send(inside.as_fd(), work()?.as_fd()))?;
    receive(outside.as_fd())
}

fn leave_connections() -> io::Result<()> {
    // SAFETY: what this thread opens from now on is seen by nobody else, and numbers that it closes stay open for others.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }?;
    let open = std::fs::read_dir("/proc/thread-self/fd")?.collect::<io::Result<Vec<_>>>()?;
    for entry in open {
        // The directory itself is closed by now.
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        if link.as_os_str() == CONNECTION
            && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok())
        {
            // SAFETY: this thread uses no FUSE connection, and who does has another table.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

fn send(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(socket, &[io::IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(socket, &mut [io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let came = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    came.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    #[test]
    fn what_is_opened_apart_is_open_here() {
        let made = open(|| {
            let mut file = tempfile::tempfile()?;
            file.write_all(b"text")?;
            file.rewind()?;
            Ok(file.into())
        });
        let mut text = String::new();
        File::from(made.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }

    #[test]
    fn errors_come_back_and_descriptors_stay() {
        let file = tempfile::tempfile().unwrap();
        let error = open(|| Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(run(|| file.metadata()).unwrap().len(), 0);
        assert!(file.metadata().is_ok(), "closed elsewhere, if at all");
    }
}
