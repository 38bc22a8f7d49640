//! A server dies again and again below readers who check every byte, and a keeper holds what the next one needs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use granary_fetch::{Identity, SecretKeys};
use granary_keeper::wire::{VERSIONS, Versions};
use granary_keeper::{Client, Keeper};
use granary_serve::{LayoutChoice, MountLayout, Server, ServerConfig, VersionManifest};

use crate::fixture::{Fixture, SIZES, WAYS, bytes, forget, layouts, wait_until};
use crate::process::Process;
use crate::readers::{Content, Random, Readers};

const DIR: &str = "GRANARY_TEST_TAKEOVER_DIR";
const SOCKET: &str = "GRANARY_TEST_TAKEOVER_SOCKET";
const WAY: &str = "GRANARY_TEST_TAKEOVER_WAY";
const RESENDS: &str = "GRANARY_TEST_TAKEOVER_RESENDS";
const SPEAKS: &str = "GRANARY_TEST_TAKEOVER_SPEAKS";

const KILLS: usize = 200;
const READERS: u64 = 16;
const DATASETS: usize = 3;
/// Files beside those of the fixture.
const FURTHER: usize = 4;
const FURTHER_BYTES: usize = 3 << 20;
/// Less than a dataset: it is never complete, and the kernel asks the server for ever.
const CACHE_BYTES: u64 = 8 << 20;

fn socket(fixture: &Fixture) -> PathBuf {
    fixture.dir.join("keeper.sock")
}

fn config(fixture: &Fixture) -> ServerConfig {
    let mut config = fixture.config();
    config.pools.get_mut("local").unwrap().max_bytes = Some(CACHE_BYTES);
    config.keeper = Some(socket(fixture));
    config
}

fn manifests(fixture: &Fixture) -> Vec<VersionManifest> {
    serde_json::from_slice(&fs::read(fixture.dir.join("manifests")).unwrap()).unwrap()
}

fn targets(fixture: &Fixture) -> Vec<PathBuf> {
    (0..manifests(fixture).len()).map(|nth| fixture.target(&nth.to_string())).collect()
}

/// A fixture with several datasets, and the bytes of the files of each.
async fn fixture() -> (Fixture, Arc<Vec<Content>>) {
    fixture_of(LayoutChoice::Auto).await
}

async fn fixture_of(way: LayoutChoice) -> (Fixture, Arc<Vec<Content>>) {
    let fixture = Fixture::with(way).await;
    let mut files: Vec<Content> = Vec::new();
    for (seed, (path, size)) in SIZES.iter().enumerate().filter(|(_, (_, size))| *size > 0) {
        files.push(((*path).to_owned(), bytes(seed as u64, *size)));
    }
    for nth in 0..FURTHER {
        let (path, content) = (format!("further/{nth}"), bytes(100 + nth as u64, FURTHER_BYTES));
        fixture.write(&path, &content);
        files.push((path, content));
    }
    let mut manifests = Vec::new();
    for nth in 0..DATASETS {
        let mut manifest = fixture.version(&format!("v{nth}"), None).await;
        manifest.dataset.dataset_uid = format!("uid{nth}");
        manifests.push(manifest);
    }
    fs::write(fixture.dir.join("manifests"), serde_json::to_vec(&manifests).unwrap()).unwrap();
    (fixture, Arc::new(files))
}

/// Publishes all datasets, as far as they are not.
async fn publish(fixture: &Fixture, server: &Server) {
    for (target, manifest) in targets(fixture).iter().zip(manifests(fixture)) {
        if !server.is_published(target) {
            server.publish("volume", target, &manifest, SecretKeys::default(), fixture).await.unwrap();
        }
    }
}

fn keeper(fixture: &Fixture, speaks: Versions) -> Process {
    let versions = format!("{} {}", speaks.least, speaks.most);
    let mut keeper = Process::start(
        "takeover::keeper_process",
        &[(SOCKET, socket(fixture).as_os_str()), (SPEAKS, OsStr::new(&versions))],
    );
    keeper.says("keeping");
    keeper
}

/// A process that waits for the word to serve. It is made of this one, whose readers have files open: exec closes those, and
/// where they are a FUSE filesystem's, the kernel may want an answer of whom serves. So it has to be made while somebody does.
fn spare(fixture: &Fixture) -> Process {
    let way = OsStr::new(fixture.way.as_str());
    let resends = OsStr::new(if fixture.has_resend { "true" } else { "false" });
    let environment = [(DIR, fixture.dir.as_os_str()), (WAY, way), (RESENDS, resends)];
    let mut process = Process::start("takeover::serving_process", &environment);
    process.says("waiting");
    process
}

/// Has a process serve. Gives the number of versions whose readers may have seen errors, too.
fn go(mut process: Process) -> (Process, usize) {
    process.hear("serve");
    let interrupted = process.says("now serving").parse().unwrap();
    (process, interrupted)
}

fn serving(fixture: &Fixture) -> (Process, usize) {
    go(spare(fixture))
}

fn kept(socket: &Path) -> usize {
    kept_names(socket).len()
}

fn kept_names(socket: &Path) -> Vec<String> {
    Client::connect(socket, Duration::from_secs(30)).unwrap().all().unwrap().into_keys().collect()
}

/// Unpublishes everything, and sees that nothing is left, also in the keeper.
async fn end(fixture: &Fixture) {
    let server = Server::start(config(fixture)).await.unwrap();
    assert_eq!(server.interrupted(), [""; 0]);
    for (path, content) in [("big", bytes(6, 5 << 20)), ("a/more", bytes(2, 4097))] {
        assert!(fs::read(fixture.target("0").join(path)).unwrap() == content, "{path}");
    }
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), kept(&socket(fixture))), (0, 0));
    // A device is there as long as anybody looks at it.
    wait_until("the last loop device", || fixture.image_loops() == 0).await;
}

/// Runs when asked to by its parent.
#[test]
#[ignore = "needs root: real mounts"]
fn keeper_process() {
    let (Some(socket), Ok(speaks)) = (std::env::var_os(SOCKET), std::env::var(SPEAKS)) else { return };
    let mut numbers = speaks.split(' ').map(|number| number.parse().unwrap());
    let versions = Versions { least: numbers.next().unwrap(), most: numbers.next().unwrap() };
    let keeper = Keeper::listen(Path::new(&socket)).unwrap().speaking(versions);
    println!("keeping");
    std::thread::spawn(|| {
        // Ends with the parent, if it is not killed by it.
        let _ = std::io::stdin().lines().next();
        std::process::exit(0);
    });
    keeper.run(None).unwrap();
}

/// Runs when asked to by its parent.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn serving_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let way = std::env::var(WAY).unwrap().parse().unwrap();
    let fixture = Fixture::existing(dir.into(), way);
    println!("waiting");
    let mut words = std::io::stdin().lines();
    let Some(Ok(_)) = words.next() else { return };
    println!("starting");
    let server = match std::env::var(RESENDS).unwrap() == "true" {
        true => Server::start(config(&fixture)).await.unwrap(),
        false => Server::start_without_resend(config(&fixture)).await.unwrap(),
    };
    publish(&fixture, &server).await;
    println!("now serving {}", server.interrupted().len());
    // Ends with the parent, if it is not killed by it.
    if let Some(Ok(_)) = words.next() {
        server.stop(false).await;
    }
}

/// Has readers go on for a while.
async fn under_readers(readers: &Readers, random: &mut Random) {
    let goal = readers.tally.reads.load(Relaxed) + 1 + random.below(32) as u64;
    wait_until("reads", || readers.tally.reads.load(Relaxed) >= goal || readers.tally.failures.load(Relaxed) > 0).await;
    assert_eq!(readers.tally.words(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn two_hundred_kills_below_sixteen_readers() {
    kills_below_readers(LayoutChoice::Auto, true, KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn kills_below_sixteen_readers_of_fuse_filesystems() {
    kills_below_readers(LayoutChoice::FUSE, true, KILLS / 5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn kills_below_sixteen_readers_on_a_kernel_that_cannot_ask_again() {
    for way in WAYS {
        kills_below_readers(way, false, KILLS / 4).await;
    }
}

async fn kills_below_readers(way: LayoutChoice, has_resend: bool, kills: usize) {
    let (mut fixture, files) = fixture_of(way).await;
    fixture.has_resend = has_resend;
    let _keeper = keeper(&fixture, VERSIONS);
    let (mut server, _) = serving(&fixture);
    let journals = kept_names(&socket(&fixture)).iter().filter(|name| name.contains("journal")).count();
    assert_eq!(journals > 0, !has_resend);
    let mut readers = Readers::start(READERS, &targets(&fixture), &files);
    let mut random = Random(1);
    let begun = Instant::now();
    for nth in 0..kills {
        let (next, early) = (spare(&fixture), (nth % 4 == 3).then(|| spare(&fixture)));
        under_readers(&readers, &mut random).await;
        server.kill();
        if let Some(mut early) = early {
            // Anywhere in the middle of its start.
            early.hear("serve");
            early.says("starting");
            std::thread::sleep(Duration::from_micros(random.below(50_000) as u64));
            early.kill();
        }
        let interrupted;
        (server, interrupted) = go(next);
        assert_eq!(interrupted, 0, "it was taken over, not mended");
    }
    under_readers(&readers, &mut random).await;
    readers.stop();
    let tally = &readers.tally;
    println!(
        "{} kills in {:.1?}: {} reads of {} MiB by {READERS} readers on {DATASETS} datasets, {} failures, longest stall {:.1?}",
        kills + kills / 4,
        begun.elapsed(),
        tally.reads.load(Relaxed),
        tally.bytes.load(Relaxed) >> 20,
        tally.failures.load(Relaxed),
        tally.longest(),
    );
    assert_eq!(tally.words(), [""; 0]);
    server.kill();
    end(&fixture).await;
}

/// Reads of a dataset's longer version are asked again before it is adopted. Versions are adopted in an order that looks random,
/// so there are several datasets.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn nothing_is_answered_before_all_versions_of_a_dataset_are_known() {
    let fixture = Fixture::new().await;
    let (mut manifests, mut newest) = (Vec::new(), Vec::new());
    for nth in 0..2 * DATASETS {
        let first = fixture.version(&format!("first{nth}"), None).await;
        let (path, content) = (format!("further/{nth}"), bytes(100 + nth as u64, FURTHER_BYTES));
        fixture.write(&path, &content);
        manifests.extend([first.clone(), fixture.version(&format!("second{nth}"), Some(&first)).await]);
        newest.push((2 * nth + 1, Arc::new(vec![(path, content)])));
    }
    fs::write(fixture.dir.join("manifests"), serde_json::to_vec(&manifests).unwrap()).unwrap();
    let _keeper = keeper(&fixture, VERSIONS);
    let (mut server, _) = serving(&fixture);
    let start = |(target, files): &(usize, _)| Readers::start(3, &[fixture.target(&target.to_string())], files);
    let mut readers: Vec<Readers> = newest.iter().map(start).collect();
    let mut random = Random(4);
    for _ in 0..10 {
        let next = spare(&fixture);
        for readers in &readers {
            under_readers(readers, &mut random).await;
        }
        server.kill();
        (server, _) = go(next);
    }
    for readers in &mut readers {
        under_readers(readers, &mut random).await;
        readers.stop();
        assert_eq!(readers.tally.words(), [""; 0]);
    }
    server.kill();
    end(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn an_orderly_end_hands_over_what_is_under_way() {
    for way in WAYS {
        orderly_ends(way, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn an_orderly_end_hands_over_its_journal() {
    for way in WAYS {
        orderly_ends(way, false).await;
    }
}

async fn orderly_ends(way: LayoutChoice, has_resend: bool) {
    let (mut fixture, files) = fixture_of(way).await;
    fixture.has_resend = has_resend;
    let _keeper = keeper(&fixture, VERSIONS);
    let (mut server, _) = serving(&fixture);
    let mut readers = Readers::start(READERS, &targets(&fixture), &files);
    let mut random = Random(2);
    for _ in 0..10 {
        let next = spare(&fixture);
        under_readers(&readers, &mut random).await;
        server.tell("stop");
        let interrupted;
        (server, interrupted) = go(next);
        assert_eq!(interrupted, 0, "it was taken over, not mended");
    }
    under_readers(&readers, &mut random).await;
    readers.stop();
    println!(
        "10 replacements: {} failures, longest stall {:.1?}",
        readers.tally.words().len(),
        readers.tally.longest()
    );
    assert_eq!(readers.tally.words(), [""; 0]);
    server.tell("stop");
    end(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_keeper_that_dies_alone_is_replaced_and_nobody_notices() {
    let (fixture, files) = fixture().await;
    let first = keeper(&fixture, VERSIONS);
    let (server, _) = serving(&fixture);
    let mut readers = Readers::start(READERS, &targets(&fixture), &files);
    let mut random = Random(3);
    under_readers(&readers, &mut random).await;
    let before = kept(&socket(&fixture));
    first.kill();
    under_readers(&readers, &mut random).await;
    let _second = keeper(&fixture, VERSIONS);
    wait_until("the new keeper to have everything", || kept(&socket(&fixture)) == before).await;
    server.kill();
    let (server, interrupted) = serving(&fixture);
    assert_eq!(interrupted, 0);
    under_readers(&readers, &mut random).await;
    readers.stop();
    assert_eq!(readers.tally.words(), [""; 0]);
    server.kill();
    end(&fixture).await;
}

/// Reads a file, with nothing of it in the page cache.
fn read_anew(fixture: &Fixture) -> std::io::Result<Vec<u8>> {
    let path = fixture.target("0").join("big");
    forget(&fs::File::open(&path)?);
    fs::read(path)
}

/// Readers see errors, and then the bytes again, on the same mounts.
async fn mended(fixture: &Fixture, expected: usize) {
    let mounts = fixture.mounts();
    let (server, interrupted) = serving(fixture);
    assert_eq!((interrupted, fixture.mounts()), (expected, mounts));
    fixture.assert_same_anew("0");
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn without_the_keeper_too_the_mount_is_mended() {
    let (fixture, _) = fixture().await;
    let first = keeper(&fixture, VERSIONS);
    let (server, _) = serving(&fixture);
    // In both orders.
    first.kill();
    server.kill();
    assert!(read_anew(&fixture).is_err(), "nobody serves it, and nobody waits");
    mended(&fixture, DATASETS).await;
    let second = keeper(&fixture, VERSIONS);
    let (server, _) = serving(&fixture);
    server.kill();
    second.kill();
    assert!(read_anew(&fixture).is_err());
    let _third = keeper(&fixture, VERSIONS);
    mended(&fixture, DATASETS).await;
    end(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_keeper_of_another_version_is_done_without() {
    let (fixture, _) = fixture().await;
    let _keeper = keeper(&fixture, Versions { least: 7, most: 9 });
    let (server, _) = serving(&fixture);
    fixture.assert_same_anew("0");
    server.kill();
    mended(&fixture, DATASETS).await;
    fixture.unmount_all();
}

/// As when a keeper is not understood any more: it holds what nobody serves, and readers wait for it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn what_is_held_and_not_served_is_given_up_and_mended() {
    let (fixture, files) = fixture().await;
    let _keeper = keeper(&fixture, VERSIONS);
    let (server, _) = serving(&fixture);
    server.kill();
    // Waits, since the keeper holds the connection.
    let mut readers = Readers::start(READERS, &targets(&fixture), &files);
    let server = Server::start(ServerConfig { keeper: None, ..config(&fixture) }).await.unwrap();
    assert_eq!(server.interrupted().len(), DATASETS);
    let goal = readers.tally.reads.load(Relaxed) + 100;
    wait_until("reads", || readers.tally.reads.load(Relaxed) >= goal).await;
    readers.stop();
    assert!(readers.tally.words().iter().all(|words| !words.contains("wrong bytes")), "{:?}", readers.tally.words());
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), fixture.image_loops()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: real mounts"]
async fn a_successor_has_the_keys_before_anybody_brings_them() {
    let fixture = Fixture::new().await;
    let _keeper = keeper(&fixture, VERSIONS);
    let mut manifest = fixture.version("v0", None).await;
    manifest.sources[0].identity = Identity::Secret;
    fs::write(fixture.dir.join("manifests"), serde_json::to_vec(&[manifest]).unwrap()).unwrap();
    // Publishes with keys, though there are none.
    let (server, _) = serving(&fixture);
    server.kill();
    let server = Server::start(ServerConfig { keeper: Some(socket(&fixture)), ..fixture.config() }).await.unwrap();
    // Does not wait for a republish, which never comes.
    fixture.assert_same_anew("0");
    wait_until("all of it to be cached", || layouts(&server) == [MountLayout::EROFSLoopNative]).await;
    server.stop(true).await;
    assert_eq!((fixture.mounts().len(), kept(&socket(&fixture))), (0, 0));
}
