//! `granary mount`, with real mounts.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};

/// How long something may take that takes no time at all unless the machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a source, mount points and caches; unmounted and removed when dropped.
struct Place {
    dir: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("source/b")).unwrap();
        fs::write(dir.join("source/a"), vec![7; 3_000_000]).unwrap();
        fs::write(dir.join("source/b/c"), "text").unwrap();
        Self { dir, _temporary: temporary }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn command(&self, mount_point: &str, cache: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_granary"));
        command
            .arg("mount")
            .arg(format!("file://{}/", self.path("source").display()))
            .arg(self.path(mount_point))
            .arg("--cache")
            .arg(self.path(cache))
            .args(["--cache-size", "64Mi", "--min-free", "0"])
            .stderr(Stdio::piped());
        command
    }

    fn mount(&self, mount_point: &str, cache: &str) -> Mounted {
        Self::run(self.command(mount_point, cache))
    }

    /// Runs a mounting command until it has mounted.
    fn run(mut command: Command) -> Mounted {
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut mounted = Mounted { child, stderr };
        let (mut seen, mut line) = (Vec::new(), String::new());
        while mounted.stderr.read_line(&mut line).unwrap() > 0 {
            if line.starts_with("mounted ") {
                return mounted;
            }
            seen.push(std::mem::take(&mut line));
        }
        panic!("it ended early: {seen:?}");
    }

    fn mounts(&self) -> Vec<String> {
        let dir = self.dir.display().to_string();
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines()
            .filter(|line| line.contains(&dir))
            .filter_map(|line| line.split(' ').nth(4))
            .map(str::to_owned)
            .collect()
    }

    /// What `granary status` says of a mount point.
    fn status(&self, mount_point: &str) -> Option<serde_json::Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_granary")).args(["status", "--json"]).output().unwrap();
        let mounts: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let at = self.path(mount_point).display().to_string();
        mounts.into_iter().find(|mount| mount["mountPoint"] == at)
    }

    /// Waits until a mount has this layout.
    fn await_layout(&self, mount_point: &str, layout: &str) {
        let begun = Instant::now();
        while self.status(mount_point).unwrap()["layout"] != layout {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.status(mount_point));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn assert_same(&self, mount_point: &str) {
        for file in ["a", "b/c"] {
            assert!(
                fs::read(self.path(mount_point).join(file)).unwrap()
                    == fs::read(self.path("source").join(file)).unwrap()
            );
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for path in self.mounts().iter().rev() {
            let _ = rustix::mount::unmount(Path::new(path), UnmountFlags::DETACH);
        }
    }
}

/// A running `granary mount`; killed when dropped.
struct Mounted {
    child: Child,
    /// Held open, since the child has more to say.
    stderr: BufReader<ChildStderr>,
}

impl Mounted {
    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs root: real mounts"]
fn signals_unmount_and_the_cache_is_used_again() {
    let place = Place::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut mounted = place.mount("mnt", "cache");
        place.assert_same("mnt");
        assert_eq!(mounted.end(signal), Some(0));
        assert_eq!(place.mounts(), [""; 0]);
        assert!(!place.path("mnt").exists(), "a mount point that was made is removed");
    }
    // The blob of the first run: a second one would have a directory of its own.
    assert_eq!(fs::read_dir(place.path("cache/pool/blobs")).unwrap().count(), 1);
}

#[test]
#[ignore = "needs root: real mounts"]
fn two_caches_can_be_used_at_once_but_not_one_twice() {
    let place = Place::new();
    let _first = place.mount("first", "cache1");
    let _second = place.mount("second", "cache2");
    place.assert_same("first");
    place.assert_same("second");
    let output = place.command("third", "cache1").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("in use by another process"), "{error}");
    assert!(!place.path("third").exists());
    place.assert_same("first");
}

#[test]
#[ignore = "needs root: real mounts"]
fn what_a_killed_run_left_is_released() {
    let place = Place::new();
    fs::create_dir(place.path("first")).unwrap();
    place.mount("first", "cache").end(Signal::KILL);
    assert_eq!(place.mounts().len(), 2);
    let mut again = place.mount("second", "cache");
    assert_eq!(place.mounts().iter().filter(|path| path.ends_with("/first")).count(), 0);
    assert!(place.path("first").exists(), "a mount point that was there before stays");
    place.assert_same("second");
    assert_eq!(again.end(Signal::INT), Some(0));
    assert_eq!(place.mounts(), [""; 0]);
}

/// Keepers of caches below a directory, by the number of their processes.
fn keepers(place: &Place) -> usize {
    let is_one = |path: PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.get(1).is_some_and(|word| word == "keeper") && words[2].starts_with(&*place.dir.to_string_lossy())
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_one(path.clone()))
        .count()
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_reader_waits_for_the_next_run_when_one_is_killed() {
    let place = Place::new();
    place.mount("mnt", "cache").end(Signal::KILL);
    let mounts = place.mounts();
    let (file, expected) = (place.path("mnt/a"), fs::read(place.path("source/a")).unwrap());
    let reader = std::thread::spawn(move || fs::read(file).map(|found| found == expected));
    let mut again = place.mount("mnt", "cache");
    assert!(reader.join().unwrap().unwrap(), "not one error, and the same bytes");
    assert_eq!(place.mounts(), mounts, "the same mounts");
    // What is listed now is something else, so the next run shows that.
    again.end(Signal::KILL);
    fs::write(place.path("source/a"), vec![8; 2_000_000]).unwrap();
    let mut again = place.mount("mnt", "cache");
    place.assert_same("mnt");
    assert_eq!(again.end(Signal::INT), Some(0));
    assert_eq!((place.mounts(), place.path("mnt").exists()), (Vec::new(), false));
    let begun = Instant::now();
    while keepers(&place) > 0 {
        assert!(begun.elapsed() < PATIENCE, "a keeper stays though there is nothing to keep");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root: real mounts"]
fn an_unmount_from_outside_ends_it() {
    let place = Place::new();
    let mut mounted = place.mount("mnt", "cache");
    rustix::mount::unmount(place.path("mnt"), UnmountFlags::empty()).unwrap();
    assert!(mounted.child.wait().unwrap().success());
    assert_eq!(place.mounts(), [""; 0]);
}

#[test]
#[ignore = "needs root: real mounts"]
fn what_is_mounted_and_how_is_seen_from_outside() {
    let place = Place::new();
    let uri = format!("file://{}/", place.path("source").display());
    let mut mounted = place.mount("mnt", "cache");
    let status = place.status("mnt").unwrap();
    assert_eq!((&status["layout"], &status["dataset"]), (&"EROFSLoopFUSE".into(), &uri.as_str().into()));
    assert!(status["cachedPercent"].as_u64().unwrap() < 100 && status["version"].is_string(), "{status}");
    place.assert_same("mnt");
    place.await_layout("mnt", "EROFSLoopNative");
    assert_eq!(mounted.end(Signal::INT), Some(0));
    assert_eq!(place.status("mnt"), None);
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_layout_that_was_asked_for_is_used() {
    let place = Place::new();
    let mut command = place.command("mnt", "cache");
    command.args(["--layout", "FUSE"]);
    let mut mounted = Place::run(command);
    place.assert_same("mnt");
    let status = place.status("mnt").unwrap();
    assert_eq!(status["layout"], "FUSE", "{status}");
    assert_eq!(mounted.end(Signal::INT), Some(0));
    assert_eq!(place.mounts(), [""; 0]);
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_preload_fills_the_cache_without_a_reader() {
    let place = Place::new();
    let mut command = place.command("mnt", "cache");
    command.arg("--preload");
    let mut mounted = Place::run(command);
    place.await_layout("mnt", "EROFSLoopNative");
    // Nothing is left to ask the source for.
    fs::rename(place.path("source"), place.path("elsewhere")).unwrap();
    for file in ["a", "b/c"] {
        let [read, expected] = ["mnt", "elsewhere"].map(|at| fs::read(place.path(at).join(file)).unwrap());
        assert!(read == expected, "{file}");
    }
    assert_eq!(mounted.end(Signal::INT), Some(0));
}

#[test]
#[ignore = "needs root: real mounts"]
fn the_last_mount_comes_back_without_its_source() {
    let place = Place::new();
    let mut never = place.command("mnt", "cache");
    let refused = never.arg("--last").output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("leave out --last"), "{error}");
    let mut mounted = place.mount("mnt", "cache");
    place.assert_same("mnt");
    assert_eq!(mounted.end(Signal::INT), Some(0));
    fs::rename(place.path("source"), place.path("elsewhere")).unwrap();
    let mut command = place.command("mnt", "cache");
    command.arg("--last");
    let mut mounted = Place::run(command);
    for file in ["a", "b/c"] {
        let [read, expected] = ["mnt", "elsewhere"].map(|at| fs::read(place.path(at).join(file)).unwrap());
        assert!(read == expected, "{file}");
    }
    assert_eq!(mounted.end(Signal::INT), Some(0));
}
