//! FUSE sessions with a journal, for kernels that cannot ask a successor again.
//!
//! `fuser` takes requests into memory of its own, which is gone with a process that is killed. So here it has no connection:
//! threads of this module take the requests, into the journal, answer reads, and ask `fuser` for the rest over a socket, one
//! after the other.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use fuser::{Errno, Filesystem};
use memmap2::MmapMut;
use parking_lot::Mutex;

use crate::blob_reads::Answer;
use crate::fuse_session::{MAX_READ, THREADS};
use crate::fuse_wire::{self, ANSWER_BYTES, Request};
use crate::journal::{Cell, Journal};

/// What the kernel wants room for beside a cell, though it asks for nothing that is as long: the longest write, and its header.
const REST_BYTES: usize = MAX_READ as usize + 4096;

/// A filesystem whose reads can be answered elsewhere than over `fuser`. Its clones are the same filesystem.
pub(crate) trait Files: Filesystem + Clone {
    /// Answers a read of a file.
    fn read_file(&self, inode: u64, offset: u64, len: u32, reply: impl Answer);
}

/// Serves what the kernel asks `connection`, and first what a predecessor has left in the journal, on threads of its own until
/// the kernel has let go. At the other end of `fuser`, a session of the same filesystem is served.
pub(crate) fn start(
    files: &impl Files,
    connection: &OwnedFd,
    fuser: UnixStream,
    (journal, left): (Arc<Journal>, Vec<Cell>),
) -> io::Result<()> {
    let (connection, fuser) = (Arc::new(connection.try_clone()?), Arc::new(Fuser(Mutex::new(fuser))));
    let left = Arc::new(Mutex::new(left));
    for _ in 0..THREADS {
        let (connection, journal) = (connection.clone(), journal.clone());
        let taker = Taker { files: files.clone(), connection, fuser: fuser.clone(), journal, left: left.clone() };
        std::thread::Builder::new().name("granary-fuse".into()).spawn(move || {
            if let Err(error) = taker.run() {
                tracing::error!(%error, "a FUSE session ended early");
            }
        })?;
    }
    Ok(())
}

/// What a thread needs.
struct Taker<F> {
    files: F,
    connection: Arc<OwnedFd>,
    fuser: Arc<Fuser>,
    journal: Arc<Journal>,
    left: Arc<Mutex<Vec<Cell>>>,
}

impl<F: Files> Taker<F> {
    fn run(&self) -> io::Result<()> {
        while let Some(cell) = self.next_left() {
            self.answer(cell);
        }
        let mut rest = MmapMut::map_anon(REST_BYTES)?;
        loop {
            let mut cell = self.journal.take();
            match cell.fill(&self.connection, &mut rest) {
                Ok(0) | Err(rustix::io::Errno::NODEV) => return Ok(()),
                Ok(_) => self.answer(cell),
                // The asker is gone; a signal; nothing to do.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next_left(&self) -> Option<Cell> {
        self.left.lock().pop()
    }

    fn answer(&self, cell: Cell) {
        match Request::parse(cell.bytes()) {
            Some(Request::Read { unique, inode, offset, len }) => {
                let reply = JournalledReply { connection: self.connection.clone(), unique, cell };
                self.files.read_file(inode, offset, len, reply);
            }
            Some(Request::LongName { unique }) => refuse(&self.connection, unique, Errno::ENAMETOOLONG),
            Some(Request::Other { unique, bytes }) => {
                match cell.bytes().get(..bytes).map(|request| self.fuser.ask(request)) {
                    Some(Ok(answer)) => send(&self.connection, &[IoSlice::new(&answer)]),
                    Some(Err(error)) => {
                        tracing::error!(%error, "a FUSE request cannot be answered");
                        refuse(&self.connection, unique, Errno::EIO);
                    }
                    // Nothing else that is served here is asked at such length.
                    None => refuse(&self.connection, unique, Errno::ENOSYS),
                }
            }
            Some(Request::Statement) | None => {}
        }
    }
}

/// The answer to a read, whose request is in the journal until it is given.
struct JournalledReply {
    connection: Arc<OwnedFd>,
    unique: u64,
    cell: Cell,
}

impl Answer for JournalledReply {
    fn data(self, bytes: &[u8]) {
        send(&self.connection, &[IoSlice::new(&fuse_wire::answer(self.unique, bytes)), IoSlice::new(bytes)]);
    }

    fn error(self, error: Errno) {
        refuse(&self.connection, self.unique, error);
    }

    fn leave(self) {
        self.cell.leave();
    }
}

fn refuse(connection: &OwnedFd, unique: u64, error: Errno) {
    send(connection, &[IoSlice::new(&fuse_wire::refusal(unique, error))]);
}

fn send(connection: &OwnedFd, answer: &[IoSlice<'_>]) {
    match rustix::io::writev(connection.as_fd(), answer) {
        // A predecessor has answered; or nobody wants to know any more.
        Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => {}
        Err(error) => tracing::error!(%error, "the kernel does not take an answer"),
    }
}

/// A session of `fuser`'s, at the other end of a socket.
struct Fuser(Mutex<UnixStream>);

impl Fuser {
    /// Has it answer a request.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut socket = self.0.lock();
        socket.write_all(request)?;
        take_answer(&mut socket)
    }
}

impl Drop for Fuser {
    /// Ends it: each of its threads.
    fn drop(&mut self) {
        for _ in 0..THREADS {
            let ended = self.ask(&fuse_wire::destroy());
            if let Err(error) = ended {
                tracing::debug!(%error, "a FUSE session had ended");
            }
        }
    }
}

/// Takes an answer of `fuser`'s from the other end.
pub(crate) fn take_answer(socket: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut header = [0; ANSWER_BYTES];
    socket.read_exact(&mut header)?;
    let len = fuse_wire::answer_len(&header).ok_or(io::ErrorKind::InvalidData)?;
    let mut answer = header.to_vec();
    answer.resize(len, 0);
    socket.read_exact(&mut answer[ANSWER_BYTES..])?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::time::{Duration, Instant};

    use fuser::{INodeNo, KernelConfig, ReplyEntry};
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

    use super::*;
    use crate::fuse_wire::tests::{read, request};
    use crate::journal::{self, CELL_BYTES};
    use crate::{fuse_session, takeover};

    const PATIENCE: Duration = Duration::from_secs(60);
    const LOOKUP: u32 = 1;
    const FORGET: u32 = 2;
    const IOCTL: u32 = 39;

    /// Files that have bytes counted from the offset, or none yet.
    #[derive(Clone)]
    struct Counting {
        is_leaving: bool,
    }

    impl Files for Counting {
        fn read_file(&self, inode: u64, offset: u64, len: u32, reply: impl Answer) {
            if self.is_leaving {
                reply.leave();
            } else if inode == 0 {
                reply.error(Errno::EIO);
            } else {
                reply.data(&(offset..offset + u64::from(len)).map(|byte| byte as u8).collect::<Vec<_>>());
            }
        }
    }

    impl Filesystem for Counting {
        fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
            fuse_session::negotiate(config);
            Ok(())
        }

        fn lookup(&self, _: &fuser::Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
            assert_eq!(name, "name");
            reply.error(Errno::ENOENT);
        }
    }

    /// A kernel, and who answers it by a journal in `memory`.
    fn kernel(memory: &OwnedFd, files: Counting) -> OwnedFd {
        let (kernel, connection) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        set_socket_timeout(&kernel, Timeout::Recv, Some(PATIENCE)).unwrap();
        fuse_session::resume(files, &connection, Some(memory)).unwrap();
        kernel
    }

    fn ask(kernel: &OwnedFd, request: &[u8]) {
        rustix::net::send(kernel, request, SendFlags::empty()).unwrap();
    }

    /// So many answers: error and data by the request.
    fn answers(kernel: &OwnedFd, count: usize) -> BTreeMap<u64, (i32, Vec<u8>)> {
        let answer = |_| {
            let mut bytes = [0; 256];
            let (len, _) = rustix::net::recv(kernel, bytes.as_mut_slice(), RecvFlags::empty()).unwrap();
            let (said, error, unique) = (&bytes[..4], &bytes[4..8], &bytes[8..16]);
            assert_eq!(u32::from_ne_bytes(said.try_into().unwrap()) as usize, len);
            let error = i32::from_ne_bytes(error.try_into().unwrap());
            (u64::from_ne_bytes(unique.try_into().unwrap()), (error, bytes[16..len].to_vec()))
        };
        (0..count).map(answer).collect()
    }

    /// Numbers of the requests in the first cells of a journal.
    fn owed(memory: &OwnedFd) -> Vec<u64> {
        let header = |nth: usize| {
            let mut bytes = [0; 16];
            rustix::io::pread(memory, &mut bytes, (nth * CELL_BYTES) as u64).unwrap();
            let (len, unique) = (&bytes[..4], &bytes[8..]);
            (u32::from_ne_bytes(len.try_into().unwrap()) > 0).then(|| u64::from_ne_bytes(unique.try_into().unwrap()))
        };
        let mut found: Vec<_> = (0..16).filter_map(header).collect();
        found.sort();
        found
    }

    fn wait_until_owed(memory: &OwnedFd, expected: &[u64]) {
        let start = Instant::now();
        while owed(memory) != expected {
            assert!(start.elapsed() < PATIENCE, "{:?} are owed", owed(memory));
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_asked_is_in_the_journal_until_it_is_answered() {
        let memory = journal::memory().unwrap();
        let first = kernel(&memory, Counting { is_leaving: true });
        ask(&first, &read(2, 5, 7, 3));
        ask(&first, &request(LOOKUP, 4, 1, b"name\0"));
        ask(&first, &read(6, 5, 9, 1));
        assert_eq!(answers(&first, 1), [(4, (-libc::ENOENT, vec![]))].into());
        wait_until_owed(&memory, &[2, 6]);
        drop(first);
        let second = kernel(&memory, Counting { is_leaving: false });
        assert_eq!(answers(&second, 2), [(2, (0, vec![7, 8, 9])), (6, (0, vec![9]))].into());
        wait_until_owed(&memory, &[]);
        ask(&second, &read(8, 5, 255, 2));
        assert_eq!(answers(&second, 1), [(8, (0, vec![255, 0]))].into());
        wait_until_owed(&memory, &[]);
    }

    /// Whatever a process had taken when it was killed, and what makes no sense.
    #[test]
    fn a_successor_answers_what_was_taken_and_nothing_else() {
        let memory = journal::memory().unwrap();
        let left = [
            read(2, 5, 7, 3),
            request(LOOKUP, 4, 1, b"name\0"),
            request(FORGET, 6, 1, &[0; 8]),
            request(IOCTL, 8, 1, &[0; CELL_BYTES]),
            read(10, 0, 0, 1),
            request(LOOKUP, 12, 1, &[b'n'; CELL_BYTES]),
            vec![3, 0, 0, 0],
        ];
        for (nth, request) in left.iter().enumerate() {
            let taken = &request[..request.len().min(CELL_BYTES)];
            rustix::io::pwrite(&memory, taken, (nth * CELL_BYTES) as u64).unwrap();
        }
        let kernel = kernel(&memory, Counting { is_leaving: false });
        let expected = [
            (2, (0, vec![7, 8, 9])),
            (4, (-libc::ENOENT, vec![])),
            (8, (-libc::ENOSYS, vec![])),
            (10, (-libc::EIO, vec![])),
            (12, (-libc::ENAMETOOLONG, vec![])),
        ];
        assert_eq!(answers(&kernel, expected.len()), expected.into());
        wait_until_owed(&memory, &[]);
    }

    #[test]
    fn a_session_ends_with_its_connection() {
        let memory = journal::memory().unwrap();
        let (kernel, connection) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let files = Counting { is_leaving: false };
        let (session, fuser) = takeover::session_apart(files.clone(), &connection, fuse_session::config()).unwrap();
        let run = std::thread::spawn(move || session.run());
        start(&files, &connection, fuser, Journal::open(&memory).unwrap()).unwrap();
        drop(kernel);
        run.join().unwrap().unwrap();
    }
}
