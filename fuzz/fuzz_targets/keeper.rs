//! The protocol of the keeper: packets to a running one, each a byte for its length, one for its descriptors, and its bytes. What
//! a node's process leaves to its successor must be there for it, whatever others of this user have said.
#![no_main]

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use granary_fuzz::scratch;
use granary_keeper::wire::{Answer, MOST_DESCRIPTORS, MOST_NAME_BYTES, Request};
use granary_keeper::{Client, Keeper};
use libfuzzer_sys::fuzz_target;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

/// One more than a packet may have.
const DESCRIPTORS: usize = MOST_DESCRIPTORS + 1;
/// Of the client that was there before.
const KEPT: &str = "kept";

fuzz_target!(|data: &[u8]| {
    let kept = client();
    kept.keep(KEPT, &[nothing()]).expect("it keeps");
    let socket = connect();
    let mut rest = data;
    while let Some(([length, descriptors], tail)) = rest.split_first_chunk() {
        let (packet, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        check(packet);
        if !say(&socket, packet, usize::from(*descriptors) % (DESCRIPTORS + 1)) {
            break;
        }
        rest = tail;
    }
    let all = client().all().expect("it still answers");
    for (name, descriptors) in &all {
        assert!((1..=MOST_NAME_BYTES).contains(&name.len()) && (1..=MOST_DESCRIPTORS).contains(&descriptors.len()));
        kept.forget(name).expect("it forgets");
    }
    assert!(kept.all().expect("it still answers").is_empty(), "what is forgotten is gone");
});

/// A message has one form.
fn check(packet: &[u8]) {
    if let Ok(request) = Request::decode(packet) {
        assert_eq!(request.encode(), packet);
    }
    if let Ok(answer) = Answer::decode(packet) {
        assert_eq!(answer.encode(), packet);
    }
}

fn client() -> Client {
    Client::connect(keeper(), Duration::from_secs(5)).expect("the keeper answers")
}

fn keeper() -> &'static PathBuf {
    static SOCKET: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = scratch().join("keeper");
        let keeper = Keeper::listen(&path).expect("a keeper can listen");
        std::thread::spawn(move || keeper.run(None).expect("the keeper goes on"));
        path
    });
    &SOCKET
}

fn connect() -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let socket = socket.expect("a socket can be made");
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5))).expect("a timeout can be set");
    rustix::net::connect(&socket, &SocketAddrUnix::new(keeper()).expect("the path is short"))
        .expect("the keeper listens");
    socket
}

/// Sends a packet and takes the answer; false when the keeper has hung up.
fn say(socket: &OwnedFd, packet: &[u8], descriptors: usize) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = vec![nothing(); descriptors];
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let bytes = [std::io::IoSlice::new(packet)];
    if rustix::net::sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL).is_err() {
        return false;
    }
    let mut answer = [0; 2048];
    match rustix::net::recv(socket, &mut answer, RecvFlags::empty()) {
        // What hangs up with descriptors on their way resets the connection.
        Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => false,
        Ok((length, _)) => {
            Answer::decode(&answer[..length]).expect("the keeper's answers make sense");
            true
        }
        Err(error) => panic!("the keeper says nothing: {error}"),
    }
}

fn nothing() -> BorrowedFd<'static> {
    static NOTHING: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("there is nothing to read"));
    NOTHING.as_fd()
}
