//! The images that every test cluster has.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::oci::{Config, Entry, Image, Layer};
use super::{BUSYBOX, COREDNS, PAUSE};
use crate::exec;
use crate::paths::{Paths, write_atomically};
use crate::tools::Tools;

/// Waits for a signal and reaps what other containers of the pod leave.
const PAUSE_SOURCE: &str = r#"#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap); for (;;) pause(); }
"#;

/// All of them.
pub(super) fn all(paths: &Paths, tools: &Tools) -> Result<Vec<Image>> {
    Ok(vec![static_image(PAUSE, &pause(paths)?)?, busybox()?, static_image(COREDNS, &tools.coredns())?])
}

/// An image whose only content is one static program.
pub fn static_image(reference: &str, program: &Path) -> Result<Image> {
    let name = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    let config = Config { entrypoint: vec![format!("/{name}")], ..Config::default() };
    Ok(Image { reference: reference.into(), layers: vec![Layer(vec![Entry::copy(name, 0o755, program)?])], config })
}

fn pause(paths: &Paths) -> Result<PathBuf> {
    let (source, program) = (paths.cache.join("pause/pause.c"), paths.cache.join("pause/pause"));
    if !program.exists() || std::fs::read_to_string(&source).is_ok_and(|text| text != PAUSE_SOURCE) {
        write_atomically(&source, PAUSE_SOURCE)?;
        let partial = program.with_extension("partial");
        exec::output(Command::new("gcc").args(["-static", "-Os", "-s", "-o"]).arg(&partial).arg(&source))?;
        std::fs::rename(&partial, &program).context("naming the pause program")?;
    }
    Ok(program)
}

/// Debian's static busybox with a link for each of its programs.
fn busybox() -> Result<Image> {
    let program = Path::new("/bin/busybox");
    let mut entries = vec![
        Entry::copy("bin/busybox", 0o755, program)?,
        Entry::Directory { path: "tmp".into(), mode: 0o1777 },
        Entry::file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n".to_vec(),
        ),
        Entry::file("etc/group", 0o644, b"root:x:0:\nnobody:x:65534:\n".to_vec()),
    ];
    let applets = exec::output(Command::new(program).arg("--list"))?;
    for name in applets.lines().filter(|name| *name != "busybox") {
        entries.push(Entry::Link { path: format!("bin/{name}"), target: "busybox".into() });
    }
    let config =
        Config { entrypoint: vec!["/bin/sh".into()], environment: vec!["PATH=/bin".into()], ..Config::default() };
    Ok(Image { reference: BUSYBOX.into(), layers: vec![Layer(entries)], config })
}
