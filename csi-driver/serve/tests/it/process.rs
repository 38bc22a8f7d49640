//! This test binary, run again as another process.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long something may take that takes no time at all unless the machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that runs one of the tests here; killed when dropped. Its standard input ends with its parent.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub fn start(test: &str, environment: &[(&str, &OsStr)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    /// Waits until it says something that begins with `word`, and gives what follows.
    pub fn says(&mut self, word: &str) -> String {
        for line in self.lines.by_ref().map_while(Result::ok) {
            // The harness may have begun the line.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
        panic!("it ended before it said '{word}'");
    }

    /// Tells it something.
    pub fn hear(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.end();
    }

    /// Tells it something, and waits until it has ended well.
    pub fn tell(mut self, word: &str) {
        self.hear(word);
        let status = self.end();
        assert!(status.success(), "{status}");
    }

    /// A process that is killed while the kernel waits for it must end nevertheless.
    fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "process {} does not end", self.child.id());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
