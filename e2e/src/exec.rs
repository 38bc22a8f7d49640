//! Running other programs, with errors that say what was run and what it said.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output an error carries.
const TAIL_LINES: usize = 30;

/// Runs a program to its end and returns what it printed; a non-zero exit is an error with its last lines.
pub fn output(command: &mut Command) -> Result<String> {
    let done = raw_output(command)?;
    check(command, &done)?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a program to its end, whatever its exit status.
pub fn raw_output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", render(command)))
}

/// Runs a program with everything that it prints going to `log`; on failure the error has the log's end and its path.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let file = std::fs::File::create(log).with_context(|| format!("making the log {}", log.display()))?;
    let second = file.try_clone().with_context(|| format!("opening the log {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(second)
        .status()
        .with_context(|| format!("cannot run `{}`", render(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}); the end of {}:\n{}", render(command), log.display(), tail_of(log));
    }
    Ok(())
}

/// Runs a program with `input` on its standard input and returns what it printed.
pub fn with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let shown = render(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let mut pipe = child.stdin.take().context("the child has no standard input")?;
    // Written beside the reading of its output: a program that prints before it has read all would otherwise block both.
    let done = std::thread::scope(|scope| {
        let writer = scope.spawn(move || std::io::Write::write_all(&mut pipe, input));
        let done = child.wait_with_output();
        // A program may end without reading all of its input; its exit status says whether that was an error.
        let _ = writer.join();
        done
    })
    .with_context(|| format!("waiting for `{shown}`"))?;
    check(command, &done)?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Takes away what an outer `cargo run` says about its own package: it would make build scripts run again.
pub fn outside_of_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "LD_LIBRARY_PATH" {
            command.env_remove(&name);
        }
    }
}

fn check(command: &Command, done: &Output) -> Result<()> {
    if done.status.success() {
        return Ok(());
    }
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    bail!("`{}` failed ({}):\n{}", render(command), done.status, tail(&said));
}

/// Whether a program of this name is on the `PATH`.
pub fn is_on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// The last lines of a log file, or why it cannot be read.
pub fn tail_of(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => tail(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("({} cannot be read: {error})", log.display()),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn render(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_command_and_what_it_said() {
        let error =
            output(Command::new("sh").args(["-c", "echo first; echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(
            error.contains("sh -c") && error.contains("first") && error.contains("why") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn input_larger_than_a_pipe_passes_through() {
        let input = vec![b'x'; 1 << 20];
        assert_eq!(with_input(&mut Command::new("cat"), &input).unwrap().len(), input.len());
    }

    #[test]
    fn a_failed_logged_command_shows_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("deep/x.log");
        let error = logged(Command::new("sh").args(["-c", "seq 100; exit 1"]), &log).unwrap_err().to_string();
        assert!(error.contains("x.log") && error.contains("\n100") && !error.contains("\n70\n"), "{error}");
    }
}
