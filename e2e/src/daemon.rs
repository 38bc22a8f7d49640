//! Background processes that outlive the command that started them, known by pid files.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::exec;
use crate::paths::{Paths, write_atomically};

/// How often a condition is looked at while one waits for it.
const POLL: Duration = Duration::from_millis(100);

/// How to start one background process.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Names the pid file and the log.
    pub name: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Environment variables besides the inherited ones.
    pub environment: Vec<(String, String)>,
}

impl Daemon {
    /// A daemon without arguments.
    pub fn new(name: impl Into<String>, program: PathBuf) -> Self {
        Self { name: name.into(), program, arguments: Vec::new(), environment: Vec::new() }
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Starts the process unless it runs; `true` when it was started.
    pub fn start(&self, paths: &Paths) -> Result<bool> {
        if running(paths, &self.name).is_some() {
            return Ok(false);
        }
        if let Some(pid) = self.find()? {
            self.record(paths, pid)?;
            return Ok(false);
        }
        let log = paths.log(&self.name);
        std::fs::create_dir_all(log.parent().context("a log has a directory")?).context("making the log directory")?;
        let file = std::fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned()).current_dir("/");
        command.stdin(Stdio::null()).stdout(file.try_clone().context("opening the log")?).stderr(file);
        // SAFETY: setsid is async-signal-safe, and nothing else runs between fork and exec.
        unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
        let child = command.spawn().with_context(|| format!("starting {} ({})", self.name, self.program.display()))?;
        self.record(paths, child.id())
            .with_context(|| format!("{} ended at once; see {}", self.name, log.display()))?;
        Ok(true)
    }

    /// A process with exactly this command line: one whose starter was killed before it wrote the pid file.
    fn find(&self) -> Result<Option<u32>> {
        let program = self.program.to_string_lossy();
        let wanted = |line: &[String]| {
            line.split_first().is_some_and(|(first, rest)| *first == program && rest == self.arguments)
        };
        Ok(processes()?.find(|pid| wanted(&command_line(*pid))))
    }

    fn record(&self, paths: &Paths, pid: u32) -> Result<()> {
        let begun = start_time(pid)?;
        write_atomically(&pid_file(paths, &self.name), format!("{pid} {begun} {}\n", self.program.display()))
    }

    /// Waits until `ready` says yes. The error has the process' last log lines, and comes at once when it died.
    pub fn wait(&self, paths: &Paths, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut last = None;
        loop {
            match ready() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            let log = paths.log(&self.name);
            let end = || format!("the end of its log {}:\n{}", log.display(), exec::tail_of(&log));
            if running(paths, &self.name).is_none() {
                bail!("{} ended while starting; {}", self.name, end());
            }
            if Instant::now() > deadline {
                let why = last.map(|error| format!(" ({error:#})")).unwrap_or_default();
                bail!("{} was not ready after {} s{why}; {}", self.name, limit.as_secs(), end());
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The process id of the daemon `name`, if it runs and is really ours.
pub fn running(paths: &Paths, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(pid_file(paths, name)).ok()?;
    let mut words = text.trim_end().splitn(3, ' ');
    let (pid, begun, program) = (words.next()?.parse().ok()?, words.next()?.parse::<u64>().ok()?, words.next()?);
    // Pids are used again; a start time and a program are not both the same by chance.
    let is_ours = start_time(pid).ok()? == begun && command_line(pid).first().is_some_and(|first| first == program);
    is_ours.then_some(pid)
}

/// Stops the daemon `name`: politely, and after `grace` by force. Not running is fine.
pub fn stop(paths: &Paths, name: &str, grace: Duration) -> Result<()> {
    if let Some(pid) = running(paths, name) {
        terminate(pid, grace).with_context(|| format!("stopping {name}"))?;
    }
    match std::fs::remove_file(pid_file(paths, name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing a pid file"),
        _ => Ok(()),
    }
}

/// Processes whose program lies in our cache and whose arguments name our state directory: all that a cluster started, also
/// what no pid file knows (a run that was killed before it wrote one, and containerd's shims).
pub fn strays(paths: &Paths) -> Result<Vec<u32>> {
    let ours = |pid: &u32| *pid != std::process::id() && is_stray(&command_line(*pid), paths);
    Ok(processes()?.filter(ours).collect())
}

/// Kills all [`strays`].
pub fn kill_strays(paths: &Paths) -> Result<()> {
    strays(paths)?.into_iter().try_for_each(|pid| terminate(pid, Duration::ZERO))
}

fn is_stray(line: &[String], paths: &Paths) -> bool {
    let Some((program, arguments)) = line.split_first() else {
        return false;
    };
    let state = paths.state.to_string_lossy();
    Path::new(program).starts_with(&paths.cache) && arguments.iter().any(|argument| argument.contains(&*state))
}

/// Ends a process and waits until it is gone.
pub fn terminate(pid: u32, grace: Duration) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))?;
    let begun = start_time(pid).ok();
    // A zombie has no command line: it is dead, only its parent has not looked.
    let is_gone = || command_line(pid).is_empty() || start_time(pid).ok() != begun;
    let mut signal = if grace.is_zero() { Signal::KILL } else { Signal::TERM };
    let mut deadline = Instant::now() + grace;
    let give_up = deadline + Duration::from_secs(20);
    let send = |signal| match kill_process(id, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("sending a signal to process {pid}")),
    };
    send(signal)?;
    while !is_gone() {
        if signal == Signal::TERM && Instant::now() > deadline {
            (signal, deadline) = (Signal::KILL, give_up);
            send(signal)?;
        }
        if Instant::now() > give_up {
            bail!("process {pid} does not end, not even by SIGKILL: it hangs in the kernel (see /proc/{pid}/stack)");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn processes() -> Result<impl Iterator<Item = u32>> {
    let entries = std::fs::read_dir("/proc").context("listing processes")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

fn pid_file(paths: &Paths, name: &str) -> PathBuf {
    paths.state.join("run").join(format!("{name}.pid"))
}

fn command_line(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// When the process began, in clock ticks since boot: field 22 of `/proc/<pid>/stat` (proc(5)).
fn start_time(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading its /proc entry")?;
    // The name before it is in parentheses and may itself have any character.
    let fields = stat.rsplit_once(')').context("a stat line has a name")?.1;
    fields.split_whitespace().nth(19).context("a stat line has 22 fields")?.parse().context("a start time is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &Path) -> Paths {
        Paths { cache: dir.join("cache"), state: dir.join("state") }
    }

    #[test]
    fn a_daemon_is_started_once_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let daemon = Daemon::new("sleeper", "/bin/sleep".into()).args([format!("302.{}", std::process::id())]);
        assert!(daemon.start(&paths).unwrap());
        let pid = running(&paths, "sleeper").unwrap();
        assert!(!daemon.start(&paths).unwrap());
        stop(&paths, "sleeper", Duration::from_secs(5)).unwrap();
        assert_eq!(running(&paths, "sleeper"), None);
        assert!(command_line(pid).is_empty());
    }

    #[test]
    fn a_daemon_without_a_pid_file_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        // A length that no other process waits for.
        let daemon = Daemon::new("orphan", "/bin/sleep".into()).args([format!("301.{}", std::process::id())]);
        daemon.start(&paths).unwrap();
        let pid = running(&paths, "orphan");
        std::fs::remove_file(pid_file(&paths, "orphan")).unwrap();
        assert!(!daemon.start(&paths).unwrap());
        assert_eq!(running(&paths, "orphan"), pid);
        stop(&paths, "orphan", Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_pid_file_of_another_process_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let me = std::process::id();
        write_atomically(&pid_file(&paths, "x"), format!("{me} {} /bin/other\n", start_time(me).unwrap())).unwrap();
        assert_eq!(running(&paths, "x"), None);
        write_atomically(&pid_file(&paths, "x"), format!("{me} 1 {}\n", command_line(me)[0])).unwrap();
        assert_eq!(running(&paths, "x"), None);
    }

    #[test]
    fn a_daemon_that_dies_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let daemon =
            Daemon::new("broken", "/bin/sh".into()).args(["-c", "echo the reason >&2; read x < /dev/null; exit 1"]);
        daemon.start(&paths).unwrap();
        let error = daemon.wait(&paths, Duration::from_secs(20), || Ok(false)).unwrap_err().to_string();
        assert!(
            error.contains("broken ended") && error.contains("the reason") && error.contains("broken.log"),
            "{error}"
        );
    }

    #[test]
    fn strays_are_known_by_program_and_state_directory() {
        let paths = Paths { cache: "/c".into(), state: "/s".into() };
        let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(is_stray(&line(&["/c/tools/x/bin/etcd", "--data-dir=/s/etcd"]), &paths));
        assert!(!is_stray(&line(&["/usr/bin/etcd", "--data-dir=/s/etcd"]), &paths));
        assert!(!is_stray(&line(&["/c/tools/x/bin/etcd", "--data-dir=/t"]), &paths));
    }
}
