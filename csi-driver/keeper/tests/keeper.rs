//! A keeper and its clients, over real sockets.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use granary_keeper::wire::{Answer, Request, VERSIONS, Versions};
use granary_keeper::{Client, ClientError, Keeper, KeeperError};

const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    path: PathBuf,
    thread: JoinHandle<std::io::Result<()>>,
    _dir: tempfile::TempDir,
}

/// A keeper that ends when nobody is connected and nothing is kept.
fn keeper() -> Running {
    keeper_speaking(VERSIONS)
}

fn keeper_speaking(versions: Versions) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keeper.sock");
    let keeper = Keeper::listen(&path).unwrap().speaking(versions);
    let thread = thread::spawn(move || keeper.run(Some(PATIENCE)));
    Running { path, thread, _dir: dir }
}

fn client(path: &Path) -> Client {
    Client::connect(path, PATIENCE).unwrap()
}

fn file(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn text(descriptor: OwnedFd) -> String {
    let (mut file, mut text) = (File::from(descriptor), String::new());
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn texts(client: &Client) -> BTreeMap<String, Vec<String>> {
    client.all().unwrap().into_iter().map(|(name, kept)| (name, kept.into_iter().map(text).collect())).collect()
}

fn expected(entries: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    entries.iter().map(|(name, texts)| ((*name).to_owned(), owned(texts))).collect()
}

#[test]
fn descriptors_outlive_who_gave_them() {
    let running = keeper();
    let first = client(&running.path);
    first.keep("a", &[file("1").as_fd(), file("2").as_fd()]).unwrap();
    first.keep("b", &[file("3").as_fd()]).unwrap();
    first.keep("c", &[file("4").as_fd()]).unwrap();
    first.keep("b", &[file("5").as_fd()]).unwrap();
    first.forget("c").unwrap();
    first.forget("nothing").unwrap();
    drop(first);

    let second = client(&running.path);
    assert_eq!(texts(&second), expected(&[("a", &["1", "2"]), ("b", &["5"])]));
    // They are there for the next one, too, until they are forgotten.
    let third = client(&running.path);
    for name in ["a", "b"] {
        third.forget(name).unwrap();
    }
    assert_eq!(texts(&second), expected(&[]));
    drop((second, third));
    running.thread.join().unwrap().unwrap();
}

#[test]
fn what_is_forgotten_is_closed() {
    let running = keeper();
    let client = client(&running.path);
    let (reader, writer) = std::io::pipe().unwrap();
    client.keep("pipe", &[writer.as_fd()]).unwrap();
    drop(writer);
    client.forget("pipe").unwrap();
    let mut rest = Vec::new();
    (&reader).read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "nobody can write any more");
}

#[test]
fn only_its_user_may_connect() {
    let running = keeper();
    let mode = fs::symlink_metadata(&running.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
#[ignore = "needs root: another user"]
fn another_user_is_refused() {
    let running = keeper();
    // Only the socket's own mode is to stand in the way.
    fs::set_permissions(running.path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = running.path.clone();
    let connect = move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        Client::connect(&path, PATIENCE).map(drop)
    };
    assert!(std::thread::spawn(connect).join().unwrap().is_err());
    Client::connect(&running.path, PATIENCE).unwrap();
}

#[test]
fn another_version_is_refused_and_nothing_is_lost() {
    let running = keeper_speaking(Versions { least: 7, most: 9 });
    let refused = Client::connect(&running.path, PATIENCE).err().unwrap();
    assert!(matches!(refused, ClientError::Refused(Versions { least: 7, most: 9 })), "{refused}");
    assert!(refused.to_string().contains("7 to 9"), "{refused}");
}

#[test]
fn a_newer_keeper_speaks_the_older_version() {
    let running = keeper_speaking(Versions { least: 1, most: 9 });
    let client = client(&running.path);
    client.keep("a", &[file("1").as_fd()]).unwrap();
    assert_eq!(texts(&client), expected(&[("a", &["1"])]));
}

/// Sends packets that no client of ours would send, and gives the answers until the keeper hangs up.
fn answers(path: &Path, packets: &[&[u8]]) -> Vec<Vec<u8>> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    let mut answers = Vec::new();
    for packet in packets {
        if rustix::net::send(&socket, packet, SendFlags::NOSIGNAL).is_err() {
            break;
        }
        let mut answer = vec![0; 2048];
        let (len, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty()).unwrap_or_default();
        if len == 0 {
            break;
        }
        answer.truncate(len);
        answers.push(answer);
    }
    answers
}

#[test]
fn who_makes_no_sense_is_hung_up_on_and_others_are_not() {
    let running = keeper();
    let good = client(&running.path);
    good.keep("a", &[file("1").as_fd()]).unwrap();
    let hello = Request::Hello(VERSIONS).encode();
    for nonsense in [b"?".as_slice(), b"K\xff", b"Hello", &[b'K'; 4096]] {
        assert_eq!(answers(&running.path, &[&hello, nonsense]).len(), 1, "{nonsense:?}");
    }
    for early in [Request::Next(""), Request::Forget("a"), Request::Keep("a")] {
        let answers = answers(&running.path, &[&early.encode()]);
        assert!(matches!(Answer::decode(&answers[0]).unwrap(), Answer::Failed(_)), "{early:?}");
    }
    let empty = answers(&running.path, &[&hello, &Request::Keep("a").encode()]);
    assert!(matches!(Answer::decode(&empty[1]).unwrap(), Answer::Failed(_)));
    assert_eq!(texts(&good), expected(&[("a", &["1"])]));
}

#[test]
fn too_many_descriptors_are_refused() {
    let running = keeper();
    let client = client(&running.path);
    let file = file("1");
    assert!(client.keep("a", &[file.as_fd(); 5]).is_err());
    client.keep("a", &[file.as_fd(); 4]).unwrap();
    assert_eq!(texts(&client), expected(&[("a", &["1"; 4])]));
}

#[test]
fn one_keeper_at_a_place_and_a_dead_ones_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keeper.sock");
    let keeper = Keeper::listen(&path).unwrap();
    assert!(matches!(Keeper::listen(&path), Err(KeeperError::Running(_))));
    drop(keeper);
    drop(Keeper::listen(&path).unwrap());
    fs::remove_file(&path).unwrap();
    fs::write(&path, "text").unwrap();
    assert!(matches!(Keeper::listen(&path), Err(KeeperError::NotASocket(_))));
}

#[test]
fn a_lingering_keeper_waits_for_a_successor_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keeper.sock");
    let keeper = Keeper::listen(&path).unwrap();
    let thread = thread::spawn(move || keeper.run(Some(Duration::from_millis(200))));
    let (mut reader, writer) = std::io::pipe().unwrap();
    client(&path).keep("pipe", &[writer.as_fd()]).unwrap();
    drop(writer);
    // Ends with the keeper, which has the last descriptor.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    thread.join().unwrap().unwrap();
    assert!(matches!(Client::connect(&path, PATIENCE), Err(ClientError::Io(_))));
}

#[test]
fn a_watched_connection_hangs_up_with_the_keeper() {
    use rustix::event::{PollFd, PollFlags, poll};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keeper.sock");
    let keeper = Keeper::listen(&path).unwrap();
    let thread = thread::spawn(move || keeper.run(Some(PATIENCE)));
    let client = client(&path);
    let watched = client.watch().unwrap();
    let mut polled = [PollFd::new(&watched, PollFlags::empty())];
    assert_eq!(poll(&mut polled, Some(&Default::default())).unwrap(), 0, "it is there");
    drop(client);
    assert_eq!(poll(&mut polled, None).unwrap(), 1);
    thread.join().unwrap().unwrap();
}

/// Names the socket to a keeper of its own process.
const SOCKET: &str = "GRANARY_TEST_KEEPER_SOCKET";

/// Pods have process namespaces of their own: a keeper in one sees no number of who connects from another.
#[test]
#[ignore = "needs root"]
fn one_in_a_process_namespace_of_its_own_keeps() {
    if let Some(path) = std::env::var_os(SOCKET) {
        Keeper::listen(Path::new(&path)).unwrap().run(Some(PATIENCE)).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keeper.sock");
    let mut keeper = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "one_in_a_process_namespace_of_its_own_keeps"])
        .env(SOCKET, &path)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let first = loop {
        match Client::connect(&path, PATIENCE) {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    first.keep("a", &[file("kept").as_fd()]).unwrap();
    drop(first);
    assert_eq!(texts(&client(&path)), expected(&[("a", &["kept"])]));
    keeper.kill().unwrap();
    keeper.wait().unwrap();
}
