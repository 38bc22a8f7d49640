//! `e2e/bench`: how fast a mounted dataset is, against the disk itself and against peers, in one run.

mod load;
mod server;
mod systems;
mod table;

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::images::GranaryImage;
use crate::paths::Paths;
use crate::{progress, tools};

use load::Load;
use server::Server;
use systems::{Granary, Mounted, Native, Rclone, S3fs, System};
use table::Table;

/// What is read, in which state of the caches.
const ROWS: &[Row] = &[
    Row { name: "big, 1 reader, cold", load: Load::Big, state: State::Cold },
    Row { name: "big, 1 reader, again", load: Load::Big, state: State::Again },
    Row { name: "big, 1 reader, after remount", load: Load::Big, state: State::Remounted },
    Row { name: "20,000 x 100 KB, 8 readers, cold", load: Load::Small, state: State::Cold },
    Row { name: "20,000 x 100 KB, 8 readers, again", load: Load::Small, state: State::Again },
    Row { name: "20,000 x 100 KB, 8 readers, after remount", load: Load::Small, state: State::Remounted },
];

struct Row {
    name: &'static str,
    load: Load,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing is cached, neither on disk nor in memory.
    Cold,
    /// Right after it was read, on the same mount.
    Again,
    /// Unmounted, the page cache dropped, mounted again with what the disk has.
    Remounted,
}

/// Runs every row on every system, `rounds` times, the systems in turn, and prints the table.
pub fn run(paths: &Paths, rounds: u32) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the benchmark needs root: it mounts filesystems and drops the page cache"
    );
    tools::apt::ensure(tools::apt::BENCH)?;
    let granary = GranaryImage::build(paths)?.program("granary");
    let server = Server::start()?;
    let dir = paths.cache.join("bench");
    let systems: Vec<Box<dyn System>> = vec![
        Box::new(Native::make(&dir)?),
        Box::new(Granary { program: granary }),
        Box::new(Rclone { program: tools::python::rclone(paths)? }),
        Box::new(S3fs),
    ];
    let mut table = Table::new(ROWS.iter().map(|row| row.name).collect(), systems.iter().map(|s| s.name()).collect());
    for round in 1..=rounds {
        for (column, system) in systems.iter().enumerate() {
            let step = progress::step(format!("round {round} of {rounds}: {}", system.name()), None);
            measure(system.as_ref(), &server, &dir, |row, rate| table.add(row, column, rate))
                .with_context(|| format!("measuring {}", system.name()))?;
            step.done();
        }
    }
    println!("{table}");
    Ok(())
}

/// Runs all rows on one system, from an empty cache.
fn measure(
    system: &dyn System,
    server: &Server,
    dir: &std::path::Path,
    mut add: impl FnMut(usize, table::Rate),
) -> Result<()> {
    for load in [Load::Big, Load::Small] {
        let work = tempfile::Builder::new().prefix("run-").tempdir_in(dir).context("making a directory for a run")?;
        let mut mounted: Option<Mounted> = None;
        for (index, row) in ROWS.iter().enumerate().filter(|(_, row)| row.load == load) {
            if row.state != State::Again {
                drop(mounted.take());
                drop_page_cache()?;
                mounted = Some(system.mount(load, server.port(), work.path())?);
            }
            let mount = mounted.as_ref().context("a mount comes first")?;
            let requests = server.requests();
            let begun = Instant::now();
            let read = load.read(&mount.path).with_context(|| format!("reading: {}", row.name))?;
            let seconds = begun.elapsed().as_secs_f64();
            add(
                index,
                table::Rate {
                    per_second: read.amount(load) / seconds,
                    requests: server.requests() - requests,
                    memory_bytes: mount.peak_memory(),
                    cpu_seconds: mount.cpu_seconds(),
                },
            );
        }
    }
    Ok(())
}

fn drop_page_cache() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache")
}
